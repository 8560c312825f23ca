#!/usr/bin/env bash
# The one task script. Every verb installs what it needs first: Debian packages (with root or sudo), the
# virtual environment .venv from the lock, the broker's jars from infra/kafka/pom.xml. Stamps make that
# quick the second time. Set-up lines go to stderr, each with the seconds it took.
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=$project/.venv
runtime=$project/var
jars=$runtime/kafka/jars
setup_log=$runtime/setup.log
setup_steps=0
pip_install=("$venv/bin/python" -m pip install --disable-pip-version-check --no-input)

usage() {
  cat <<'TEXT'
usage: ./do VERB [arguments]

  demo [arguments]     a week of Hanoi through the real parts, to the daily report (--scale 0.05: a quick one)
  test [arguments]     ruff, mypy and every test; with arguments only pytest, with those
  chaos [arguments]    the real processes killed at random from a seed: the same rows (--kills 8 --scale 0.02: a quick one)
  truyvet [arguments]  the command line, in the project's own environment (./do truyvet --help)
  fuzz [arguments]     every reader on valid, bent and hostile input, from a seed (--sanitized, --coverage, --planted)
  sim [arguments]      the rooms and the sink in a simulated world, crashed at every step (./do sim --help)
  bench [arguments]    the job side by side with what else one would pick (--scans 20000 --rounds 1: a quick one)
  bench TOOL [...]     what the pipeline costs: profile, scaling, state, latency, day, sizing (each with --help)
  lint                 ruff check, ruff format --check, mypy
  format               ruff's formatter and its safe fixes
  schemas              writes schemas/json anew from the models
  docs                 writes docs/configuration.md and docs/metrics.md anew
  lock                 compiles requirements.lock, requirements-dev.lock and the bench's locks anew
  setup                installs everything that `demo` and `test` need, and no more
  clean                stops the local stack, then removes .venv, var and caches
TEXT
}

say() { printf 'do: %s\n' "$*" >&2; }

die() {
  say "$*"
  exit 1
}

# step TEXT COMMAND...: runs the command with its output in the set-up log; says how long it took.
step() {
  local text=$1 began=$EPOCHREALTIME
  shift
  setup_steps=$((setup_steps + 1))
  say "$text ..."
  if ! "$@" >>"$setup_log" 2>&1 </dev/null; then
    tail -n 15 "$setup_log" >&2
    die "$text: failed (all of it: ${setup_log#"$project"/})"
  fi
  say "$text: $(seconds_since "$began") s"
}

seconds_since() {
  local now=$EPOCHREALTIME
  local tenths=$(((${now/[.,]/} - ${1/[.,]/}) / 100000))
  printf '%d.%d' $((tenths / 10)) $((tenths % 10))
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "neither root nor sudo: cannot run $*"
  fi
}

# --- Debian packages -------------------------------------------------------------------------------

# Debian's own first: its build is optimised, and ran the workers a quarter faster than a plain one.
find_python() {
  local name
  for name in /usr/bin/python3 python3.11 python3; do
    if is_python "$name"; then
      command -v "$name"
      return
    fi
  done
  return 1
}

is_debian_12() { [ "$(. /etc/os-release 2>/dev/null && echo "${ID:-} ${VERSION_ID:-}")" = "debian 12" ]; }

is_python() { "$1" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# What is compiled (*.pyx in streams and sinks) needs the compiler that this Python was made with, and its headers.
can_compile() {
  local python
  python=$(find_python) && "$python" - <<'CODE'
import os.path, shutil, sys, sysconfig
header = os.path.join(sysconfig.get_paths()["include"], "Python.h")
compiler = sysconfig.get_config_var("CC").split()[0]
sys.exit(not (os.path.exists(header) and shutil.which(compiler) and os.path.exists("/usr/include/stdio.h")))
CODE
}

has_java() {
  local version
  version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1) || return 1
  [ "${version:-0}" -ge 17 ]
}

# /usr/sbin is on the PATH of root alone.
has_clickhouse() { command -v clickhouse-server >/dev/null || [ -x /usr/sbin/clickhouse-server ]; }

# A package that brings a service would start it at once, and again at every boot. This project starts
# only what it stops.
apt_install() {
  local policy=/usr/sbin/policy-rc.d status=0
  if [ -e "$policy" ]; then policy=""; fi
  if [ -n "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
  fi
  as_root mkdir -p /usr/share/man/man1 # slim images lack it, and Java's package stumbles over that
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" || status=$?
  if [ -n "$policy" ]; then as_root rm -f "$policy"; fi
  case " $* " in
    *" clickhouse-server "*)
      if command -v systemctl >/dev/null; then as_root systemctl disable clickhouse-server || true; fi
      ;;
  esac
  return "$status"
}

need_packages() {
  local -a packages=()
  if ! is_python /usr/bin/python3 && { is_debian_12 || ! find_python >/dev/null; }; then
    packages+=(python3 python3-venv)
  fi
  if ! can_compile; then packages+=(gcc libc6-dev python3-dev); fi
  if ! has_java; then packages+=(openjdk-17-jre-headless); fi
  if ! jars_ready && ! command -v mvn >/dev/null; then packages+=(maven); fi
  if [ "$1" != run ] && ! has_clickhouse; then packages+=(clickhouse-server); fi
  install_packages "${packages[@]}"
}

install_packages() {
  if [ $# -eq 0 ]; then return; fi
  command -v apt-get >/dev/null || die "install these first, there is no apt-get here: $*"
  step "Debian's package lists" as_root apt-get update
  step "Debian packages $*" apt_install "$@"
}

# --- the virtual environment -----------------------------------------------------------------------

# The stamp is "run HASH" or "dev HASH"; the dev lock holds all of the run lock in the same versions.
need_venv() {
  local kind=$1 hash stamp lock=requirements.lock
  hash=$(cat "$project/requirements.lock" "$project/requirements-dev.lock" | sha256sum | cut -d ' ' -f 1)
  stamp=$(cat "$venv/stamp" 2>/dev/null || true)
  if [ "$stamp" = "dev $hash" ] || [ "$stamp" = "$kind $hash" ]; then return; fi
  if [ "$kind" = dev ]; then lock=requirements-dev.lock; fi
  if [ "$stamp" != "run $hash" ]; then
    step "virtual environment .venv" "$(find_python)" -m venv --clear "$venv"
  fi
  rm -f "$venv/stamp"
  step "packages of $lock" "${pip_install[@]}" --only-binary :all: --require-hashes -r "$project/$lock"
  printf '%s' "$kind $hash" >"$venv/stamp"
}

# The project is installed in place: its command and its Faust transport are entry points, and what is compiled
# lies beside its source.
need_project() {
  local hash
  hash=$( (cat "$project/pyproject.toml" "$project"/streams/*/*.p[yx][xd] "$project"/sinks/*.pyx && printf '%s' "$project") |
    sha256sum | cut -d ' ' -f 1)
  if [ "$(cat "$venv/stamp-project" 2>/dev/null || true)" = "$hash" ]; then return; fi
  step "the project itself" "${pip_install[@]}" --no-deps --no-build-isolation -e "$project"
  printf '%s' "$hash" >"$venv/stamp-project"
}

# --- the broker's jars -----------------------------------------------------------------------------

jars_hash() {
  cat "$project/infra/kafka/pom.xml" "$project/infra/kafka/jars.sha256" | sha256sum | cut -d ' ' -f 1
}

jars_ready() { [ "$(cat "$jars/stamp" 2>/dev/null || true)" = "$(jars_hash)" ]; }

# Steps run where `set -e` is off: each command of theirs must say itself that it failed.
fetch_jars() {
  rm -rf "$jars" "$jars.new" &&
    mvn --batch-mode --no-transfer-progress --strict-checksums --update-snapshots -f "$project/infra/kafka/pom.xml" \
      dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$jars.new" &&
    (cd "$jars.new" && sha256sum --check --strict --quiet "$project/infra/kafka/jars.sha256") &&
    jars_hash >"$jars.new/stamp" &&
    mv "$jars.new" "$jars"
}

# The jars, and an archive of the classes that the broker loads: it halves every later start.
need_broker() {
  if ! jars_ready; then
    rm -f "$runtime/kafka/classes.jsa"
    step "the broker's jars, with Maven" fetch_jars
  fi
  if [ ! -e "$runtime/kafka/classes.jsa" ]; then
    step "the broker's start-up archive" env -C "$project" "$venv/bin/python" -m infra.kafka
  fi
}

# --- what the bench compares with -------------------------------------------------------------------

bench_peers=(plain faust quix bytewax pathway)
bench_runtime=$runtime/bench

# Each in an environment of its own: they want other versions of the same packages. The lock names all there is, and
# Debian's pip, left to look for itself, takes what is asked for once with extras and once without for two packages.
fetch_peer() {
  local peer_venv=$bench_runtime/venv-$1 lock=$project/bench/requirements-$1.lock
  "$(find_python)" -m venv --clear "$peer_venv" &&
    "$peer_venv/bin/python" -m pip install --disable-pip-version-check --no-input --only-binary :all: \
      --no-deps --require-hashes -r "$lock" &&
    peer_hash "$1" >"$peer_venv/stamp"
}

peer_hash() { sha256sum <"$project/bench/requirements-$1.lock"; }

fetch_kafka_streams() {
  local source=$project/bench/peers/kafka-streams built=$bench_runtime/kafka-streams
  rm -rf "$built" &&
    mvn --batch-mode --no-transfer-progress --strict-checksums --update-snapshots -f "$source/pom.xml" \
      dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$built/jars" &&
    (cd "$built/jars" && sha256sum --check --strict --quiet "$source/jars.sha256") &&
    find "$source/src" -name '*.java' -exec javac --release 17 -d "$built/classes" -cp "$built/jars/*" {} + &&
    kafka_streams_hash >"$built/stamp"
}

kafka_streams_hash() {
  find "$project/bench/peers/kafka-streams" -type f -print0 | sort -z | xargs -0 cat | sha256sum
}

need_bench() {
  local peer
  local -a packages=()
  mkdir -p "$bench_runtime"
  for peer in "${bench_peers[@]}"; do
    if [ "$(cat "$bench_runtime/venv-$peer/stamp" 2>/dev/null || true)" != "$(peer_hash "$peer")" ]; then
      step "bench: packages of $peer" fetch_peer "$peer"
    fi
  done
  if [ "$(cat "$bench_runtime/kafka-streams/stamp" 2>/dev/null || true)" = "$(kafka_streams_hash)" ]; then return; fi
  if ! command -v javac >/dev/null; then packages+=(openjdk-17-jdk-headless); fi
  if ! command -v mvn >/dev/null; then packages+=(maven); fi
  install_packages "${packages[@]}"
  step "bench: Kafka Streams, with Maven" fetch_kafka_streams
}

# --- set-up as a whole -----------------------------------------------------------------------------

# setup KIND: `run` for the pipeline, `dev` for tests and tools too, `bench` for what it is compared with. One at a time.
setup() {
  local kind=$1 base=$1 began=$EPOCHREALTIME
  mkdir -p "$runtime"
  exec 9>"$runtime/setup.lock"
  flock --nonblock 9 || {
    say "another ./do is setting up; waiting for it"
    flock 9
  }
  if [ "$kind" = bench ]; then base=run; fi
  need_packages "$kind"
  need_venv "$base"
  need_project
  need_broker
  if [ "$kind" = bench ]; then need_bench; fi
  exec 9>&-
  if [ "$setup_steps" -gt 0 ]; then say "set-up took $(seconds_since "$began") s in all"; fi
}

python() { "$venv/bin/python" "$@"; }

# check NAME COMMAND...: one line before, the seconds after; stops at the first that fails.
check() {
  local name=$1 began=$EPOCHREALTIME
  shift
  say "$name ..."
  "$@" || die "$name: failed"
  say "$name: $(seconds_since "$began") s"
}

lint() {
  check "ruff check" python -m ruff check --quiet .
  check "ruff format --check" python -m ruff format --check --quiet .
  check "mypy" python -m mypy --no-error-summary
}

lock() {
  local peer
  local -a compile=(
    "$venv/bin/uv" pip compile pyproject.toml --quiet --no-header --no-emit-index-url --no-emit-find-links
    --generate-hashes --python-version 3.11 --python-platform x86_64-unknown-linux-gnu --group build
  )
  check "requirements.lock" "${compile[@]}" "$@" -o requirements.lock
  check "requirements-dev.lock" "${compile[@]}" "$@" --group dev -c requirements.lock -o requirements-dev.lock
  # Some of the bench's peers have wheels for newer systems alone than that platform means.
  for peer in "${bench_peers[@]}"; do
    check "bench/requirements-$peer.lock" "$venv/bin/uv" pip compile "bench/requirements-$peer.in" --quiet --no-header \
      --no-annotate --no-emit-index-url --no-emit-find-links --generate-hashes --only-binary :all: \
      --python-version 3.11 --python-platform x86_64-manylinux_2_34 "$@" -o "bench/requirements-$peer.lock"
  done
}

clean() {
  if [ -x "$venv/bin/truyvet" ] && [ -d "$runtime/up" ]; then "$venv/bin/truyvet" down; fi
  rm -rf "$venv" "$runtime" build dist ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
  rm -f {streams/core,streams/shell,sinks}/*.{c,so}
  find . -name __pycache__ -type d -prune -exec rm -rf {} +
}

main() {
  local verb=${1:-}
  if [ $# -gt 0 ]; then shift; fi
  case $verb in
    # The command line keeps the caller's folder; everything else works from the project's.
    truyvet | demo) ;;
    *) cd "$project" ;;
  esac
  case $verb in
    "" | help | --help | -h) usage ;;
    demo)
      setup run
      exec "$venv/bin/truyvet" demo "$@"
      ;;
    truyvet)
      setup run
      exec "$venv/bin/truyvet" "$@"
      ;;
    test)
      setup dev
      if [ $# -eq 0 ]; then lint; fi
      exec "$venv/bin/python" -m pytest "$@"
      ;;
    chaos)
      setup dev
      exec "$venv/bin/python" -m tests.chaos "$@"
      ;;
    sim)
      setup dev
      exec "$venv/bin/python" -m tests.sim "$@"
      ;;
    fuzz)
      setup dev
      exec "$venv/bin/python" -m tests.fuzz "$@"
      ;;
    bench)
      case ${1:-} in
        # Only the comparison needs the other libraries.
        "" | -* | peers) setup bench ;;
        *) setup dev ;;
      esac
      exec "$venv/bin/python" -m bench "$@"
      ;;
    lint)
      setup dev
      lint
      ;;
    format)
      setup dev
      python -m ruff check --fix --quiet .
      python -m ruff format .
      ;;
    schemas)
      setup dev
      python -m schemas.generate
      ;;
    docs)
      setup dev
      python -m truyvet.docpages
      ;;
    lock)
      setup dev
      lock "$@"
      ;;
    setup) setup dev ;;
    clean) clean ;;
    *)
      usage >&2
      say "no such verb: $verb"
      exit 2
      ;;
  esac
}

main "$@"
