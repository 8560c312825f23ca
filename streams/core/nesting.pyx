# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""How deep a JSON value is nested, in one pass over its bytes: the first thing that is asked of what may be anything."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE


def is_deeper(bytes value not None, Py_ssize_t depth_max):
    """Whether more arrays and objects are open at once than ``depth_max``.

    Brackets within texts are none. Of what is no JSON the answer is some, and the same each time.
    """
    cdef const unsigned char* at = <const unsigned char*> PyBytes_AS_STRING(value)
    cdef const unsigned char* end = at + PyBytes_GET_SIZE(value)
    cdef Py_ssize_t depth = 0
    cdef bint inside = False
    with nogil:
        while at < end:
            if at[0] == b"\\":
                # An escaped quotation mark ends no text, and an escaped backslash escapes nothing.
                if end - at > 1 and (at[1] == b"\\" or at[1] == b'"'):
                    at += 1
            elif at[0] == b'"':
                inside = not inside
            elif not inside:
                if at[0] == b"[" or at[0] == b"{":
                    depth += 1
                    if depth > depth_max:
                        break
                elif at[0] == b"]" or at[0] == b"}":
                    depth -= 1
            at += 1
    return depth > depth_max
