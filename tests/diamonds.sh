#!/bin/sh
# Writes a workspace to the directory $1: a `-sys` crate with C source, above it 50 libraries in a chain of
# diamonds, each of 500 lines or more, and ten binaries on top. What early cutoff is measured on. $2 is
# how many diamonds, where 16 are not enough.
#
#   native-sys <- base <-+- left1  <-+- middle1 <- … <- middleN <- top <- bin0 … bin9
#                        +- right1 <-+
set -eu
dir=$1
diamonds=${2-16}
mkdir -p "$dir"
cd "$dir"

# package NAME [DEPENDENCY…]
package() {
    name=$1
    shift
    mkdir -p "$name/src"
    {
        printf '[package]\nname = "%s"\nversion = "0.1.0"\nedition = "2021"\n' "$name"
        if [ "$name" = native-sys ]; then printf 'links = "native"\n'; fi
        printf '\n[dependencies]\n'
        for dep; do printf '%s = { path = "../%s" }\n' "$dep" "$dep"; done
    } >"$name/Cargo.toml"
}

# library NAME EXPRESSION [DEPENDENCY…]: 50 functions and types of ten lines each.
library() {
    name=$1
    value=$2
    shift 2
    package "$name" "$@"
    awk -v name="$name" -v value="$value" 'BEGIN {
        printf "pub fn value() -> u64 {\n    %s\n}\n", value
        for (i = 0; i < 50; i++) {
            printf "\n#[derive(Clone, Debug, PartialEq)]\npub struct Item%d {\n    pub name: String,\n    pub values: Vec<u64>,\n}\n", i
            printf "\nimpl Item%d {\n    pub fn new(name: &str) -> Self {\n", i
            printf "        let values = (0..%d).map(|it| it * value()).collect();\n", i + 2
            printf "        Item%d { name: format!(\"%s {name}\"), values }\n    }\n}\n", i, name
        }
    }' >"$name/src/lib.rs"
}

package native-sys
cat >native-sys/native.c <<'END'
unsigned long native(void) { return 1; }
END
cat >native-sys/src/lib.rs <<'END'
extern "C" {
    fn native() -> std::ffi::c_ulong;
}

pub fn value() -> u64 {
    unsafe { native() as u64 }
}
END
cat >native-sys/build.rs <<'END'
use std::path::Path;
use std::process::Command;

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success());
}

fn main() {
    let out_dir = std::env::var("OUT_DIR").unwrap();
    let object = Path::new(&out_dir).join("native.o");
    let library = Path::new(&out_dir).join("libnative.a");
    let _ = std::fs::remove_file(&library);
    run(Command::new("cc").args(["-c", "native.c", "-o"]).arg(&object));
    run(Command::new("ar").arg("crsD").arg(&library).arg(&object));
    println!("cargo::rustc-link-search=native={out_dir}");
    println!("cargo::rustc-link-lib=static=native");
    println!("cargo::rerun-if-changed=native.c");
    println!("cargo::rerun-if-changed=again");
}
END
touch native-sys/again

library base 'native_sys::value() + 1' native-sys
below=base
i=1
while [ $i -le "$diamonds" ]; do
    library left$i "$below::value() + 1" $below
    library right$i "$below::value() + 2" $below
    library middle$i "left$i::value() % 1000 + right$i::value() % 1000" left$i right$i
    below=middle$i
    i=$((i + 1))
done
library top "$below::value()" $below

i=0
while [ $i -lt 10 ]; do
    package bin$i top
    printf 'fn main() {\n    println!("bin%d: {} {:?}", top::value(), top::Item%d::new("it"));\n}\n' $i $i \
        >bin$i/src/main.rs
    i=$((i + 1))
done

printf '[workspace]\nresolver = "2"\nmembers = ["*"]\nexclude = ["target"]\n' >Cargo.toml
