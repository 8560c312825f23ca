"""Names of venues as they stand over Vietnamese doors."""

from typing import Final

from producers.simulate.arrays import stream
from producers.simulate.register import CATEGORY_NAMES

PREFIXES: Final = {
    "restaurant": (
        "Nhà hàng",
        "Quán ăn",
        "Phở",
        "Bún chả",
        "Bún bò Huế",
        "Cơm tấm",
        "Lẩu",
        "Bánh cuốn",
        "Cơm bình dân",
    ),
    "cafe": ("Cà phê", "Quán cà phê", "Trà sữa", "Trà chanh", "Cafe"),
    "supermarket": ("Siêu thị", "Siêu thị mini", "Cửa hàng tiện lợi", "Cửa hàng thực phẩm"),
    "market": ("Chợ", "Chợ dân sinh", "Chợ đầu mối"),
    "mall": ("Trung tâm thương mại", "Trung tâm mua sắm"),
    "transport": ("Bến xe", "Nhà ga", "Nhà xe", "Điểm trung chuyển", "Hãng taxi"),
    "checkpoint": ("Chốt kiểm soát dịch", "Chốt trực"),
    "hotel": ("Khách sạn", "Nhà nghỉ", "Homestay"),
    "hospital": ("Bệnh viện", "Trạm y tế", "Phòng khám đa khoa"),
    "pharmacy": ("Nhà thuốc", "Hiệu thuốc", "Quầy thuốc"),
    "school": ("Trường Tiểu học", "Trường THCS", "Trường THPT", "Trường Mầm non"),
    "office": ("Công ty TNHH", "Công ty Cổ phần", "Văn phòng", "Chi nhánh", "Ngân hàng"),
    "factory": ("Nhà máy", "Xưởng may", "Xưởng cơ khí", "Xưởng gỗ"),
    "worship": ("Chùa", "Đình", "Nhà thờ", "Đền"),
    "residence": ("Chung cư", "Nhà văn hóa", "Khu tập thể", "Tòa nhà"),
    "other": ("Cửa hàng", "Tiệm tóc", "Cửa hàng điện thoại", "Hiệu sách", "Tạp hóa", "Sửa xe", "Điểm giao dịch"),
}
"""What a venue of each category is called before its own name."""
WORDS: Final = (
    *("An", "Anh", "Bình", "Bảo", "Châu", "Chi", "Cường", "Duy", "Dũng", "Dương", "Đạt", "Đức", "Giang", "Hà", "Hải"),
    *("Hạnh", "Hằng", "Hiếu", "Hoa", "Hòa", "Hoàng", "Hồng", "Huệ", "Hùng", "Hương", "Khánh", "Kim", "Lan", "Linh"),
    *(
        "Long",
        "Mai",
        "Minh",
        "Nam",
        "Nga",
        "Ngọc",
        "Nguyên",
        "Nhật",
        "Oanh",
        "Phát",
        "Phong",
        "Phúc",
        "Phương",
        "Quang",
    ),
    *("Quỳnh", "Sơn", "Tâm", "Thanh", "Thành", "Thảo", "Thịnh", "Thu", "Thủy", "Tiến", "Trang", "Tuấn", "Tùng", "Vân"),
    *("Việt", "Vinh", "Xuân", "Yến"),
)
NAMED_AFTER_WARD: Final = frozenset({"market", "checkpoint", "hospital", "school", "worship"})
_UNIT_KINDS: Final = ("Phường ", "Xã ", "Thị trấn ")


class VenueNames:
    """Draws names; chunks may be drawn in any order."""

    def __init__(self, ward_names: list[str], seed: int) -> None:
        self._seed = seed
        self._prefixes = [PREFIXES[name] for name in CATEGORY_NAMES]
        self._after_ward = [name in NAMED_AFTER_WARD for name in CATEGORY_NAMES]
        self._wards = [_own_name(name) for name in ward_names]

    def draw(self, start: int, categories: list[int], wards: list[int]) -> list[str]:
        """A name for each venue; ``start`` is the number of the first one."""
        rng = stream(self._seed, "venue names", start)
        first, second = rng.integers(0, len(WORDS), (2, len(categories))).tolist()
        kinds = rng.integers(0, 2**16, len(categories)).tolist()
        names = []
        for category, ward, one, two, kind in zip(categories, wards, first, second, kinds, strict=True):
            prefixes = self._prefixes[category]
            prefix = prefixes[kind % len(prefixes)]
            if self._after_ward[category]:
                names.append(f"{prefix} {self._wards[ward]}")
            elif one == two:
                names.append(f"{prefix} {WORDS[one]}")
            else:
                names.append(f"{prefix} {WORDS[one]} {WORDS[two]}")
        return names


def _own_name(ward: str) -> str:
    """A ward's name without its kind, unless only a number is left."""
    for kind in _UNIT_KINDS:
        own = ward.removeprefix(kind)
        if own != ward and not own.isdigit():
            return own
    return ward
