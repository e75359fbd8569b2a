//! Early cutoff never judges programs that run during a build: what is built prints what it prints when the
//! released cargo builds the same state of sources and target directory.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use cargo_test_support::prelude::*;
use cargo_test_support::{Execs, Project, ProjectBuilder, project};

use crate::support::BuilderExt;
use crate::support::cutoff::{CutoffExt, copied, set_modified, touch};
use crate::support::programs::{LINKED_SCRIPT, MACROS, build_script};

/// Macros that read what nothing tells of, and a library that can be touched so that all above it is
/// dirty because of it.
fn workspace(members: &[&str]) -> ProjectBuilder {
    let members = [members, &["low", "macros"]].concat();
    let root =
        format!("[workspace]\nresolver = \"2\"\nmembers = {members:?}\n[profile.dev]\ndebug = 0\n");
    let macros = MACROS.replace("{value}", "0");
    project()
        .file("Cargo.toml", &root)
        .lib("low", "", "pub fn low() -> u32 { 7 }\n")
        .lib("macros", "[lib]\nproc-macro = true\n", &macros)
}

/// Builds everything with one of the cargos and a value of the variable.
fn build(p: &Project, execs: fn(&Project, &str) -> Execs, variable: &str) {
    execs(p, "build --workspace")
        .env("VARIABLE", variable)
        .env("CARGO_VARIABLE", variable)
        .run();
}

/// Makes everything dirty that is above `low`.
fn touch_low(p: &Project) {
    touch(&p.root().join("low/src/lib.rs"));
}

fn print(p: &Project) -> String {
    let output = p.process(p.bin("app")).run();
    String::from_utf8(output.stdout).unwrap()
}

/// Builds, makes an edit, and builds again: the program prints what the released cargo's does, which
/// differs from before if the edit `shows`. Then there is nothing to do for either cargo.
#[track_caller]
fn check(what: &str, p: &Project, shows: bool, edit: impl FnOnce(&Project)) {
    check_with(what, p, shows, "1", edit);
}

#[track_caller]
fn check_with(what: &str, p: &Project, shows: bool, variable: &str, edit: impl FnOnce(&Project)) {
    build(p, Project::incremental, "1");
    let before = print(p);
    edit(p);
    let expected = copied(p, |p| {
        build(p, Project::released, variable);
        print(p)
    });
    let differs = expected != before;
    assert_eq!(differs, shows, "{what}: {before:?}, {expected:?}");
    build(p, Project::incremental, variable);
    assert_eq!(print(p), expected, "{what}");
    for execs in [Project::incremental, Project::released] {
        execs(p, "build --workspace -v")
            .env("VARIABLE", variable)
            .env("CARGO_VARIABLE", variable)
            .with_stderr_does_not_contain("[DIRTY][..]")
            .run();
    }
}

/// What a script declares, and the file that is touched or added so that it runs again.
const TRIGGERS: [(&str, &str); 5] = [
    ("rerun-if-changed=again", "again"),
    ("rerun-if-changed=listed", "listed/more"),
    ("rerun-if-env-changed=VARIABLE", ""),
    ("", "again"),
    ("rerun-if-changed=build.rs", "build.rs"),
];

/// [Checks](check) an edit of a file of the package `script`, whose build script runs again.
#[track_caller]
fn check_rerun((declared, touched): (&str, &str), body: &str, lib: &str, file: &str) {
    let declares = match declared {
        "" => String::new(),
        _ => format!("println!(\"cargo::{declared}\");"),
    };
    let p = scripted(&(declares + body), lib, "").build();
    check_with(declared, &p, true, "2", |p| {
        fs::write(p.root().join("script").join(file), "2").unwrap();
        let touched = p.root().join("script").join(touched);
        if touched.is_file() {
            touch(&touched);
        } else if !touched.exists() {
            fs::write(touched, "more").unwrap();
        }
    });
}

/// A package with this script, and a program that prints what its library says.
fn scripted(script: &str, lib: &str, manifest: &str) -> ProjectBuilder {
    let below = "[dependencies]\nlow.path = '../low'\nmacros.path = '../macros'\n";
    workspace(&["script", "middle", "app"])
        .lib("script", &format!("{manifest}\n{below}"), lib)
        .file("script/again", "")
        .file("script/listed/first", "first")
        .file("script/input", "1")
        .file("script/code.c", "int code(void) { return 1; }\n")
        .file("script/build.rs", &build_script(script))
        .lib(
            "middle",
            "[dependencies]\nscript.path = '../script'",
            "pub fn middle() -> String { script::text() }\n",
        )
        .bin(
            "app",
            "[dependencies]\nmiddle.path = '../middle'",
            r#"fn main() { println!("{}", middle::middle()) }"#,
        )
}

/// The manifest of a package that needs `low`.
const ON_LOW: &str = "[dependencies]\nlow.path = '../low'\n";

#[cargo_test]
fn script_runs_expand_macros_again() {
    let lib = r#"pub fn text() -> String {
        format!("{} {} {}", macros::directory!("listed"), macros::variable!(VARIABLE), low::low())
    }"#;
    for trigger in TRIGGERS {
        check_rerun(trigger, "", lib, "listed/second");
    }
}

#[cargo_test]
fn script_runs_pass_results_on() {
    let body = r#"println!("cargo::rustc-env=INPUT={}", read("input"));"#;
    let lib = r#"pub fn text() -> String { env!("INPUT").to_owned() }"#;
    for trigger in TRIGGERS {
        check_rerun(trigger, body, lib, "input");
    }
}

/// Code that is linked, by the way in which it is found.
#[cargo_test]
fn every_way_to_link_c_code() {
    let text = r#"extern "C" { fn code() -> i32; }
        pub fn text() -> String { unsafe { code() }.to_string() }"#;
    let in_out_dir =
        r#"library(&out(), "code"); println!("cargo::rustc-link-search=native={}", out());"#;
    let static_lib = r#"println!("cargo::rustc-link-lib=static=code");"#;
    let unbundled = r#"println!("cargo::rustc-link-lib=static:-bundle=code");"#;
    for (what, search, lib) in [
        ("in OUT_DIR", in_out_dir, static_lib),
        ("not bundled", in_out_dir, unbundled),
        (
            "without a kind",
            r#"library(&out(), "code"); println!("cargo::rustc-link-search={}", out());"#,
            unbundled,
        ),
        (
            "relative",
            r#"library("../libs", "code"); println!("cargo::rustc-link-search=native=libs");"#,
            unbundled,
        ),
        (
            "relative, bundled",
            r#"library("../libs", "code"); println!("cargo::rustc-link-search=native=libs");"#,
            static_lib,
        ),
        (
            "relative, with a slash",
            r#"library("../libs/c", "code"); println!("cargo::rustc-link-search=libs/c/");"#,
            unbundled,
        ),
    ] {
        let script = format!(r#"{search} {lib} println!("cargo::rerun-if-changed=code.c");"#);
        let p = scripted(&script, text, "links = \"code\"").build();
        check(what, &p, true, |p| {
            p.change_file("script/code.c", "int code(void) { return 2; }\n");
        });
        // The library is replaced by hand: what reads it is made again when it is dirty at all.
        let is_outside = search.contains("libs");
        check(&format!("{what}, replaced"), &p, is_outside, |p| {
            if is_outside {
                let is_deeper = search.contains("libs/c");
                let dir = if is_deeper { "libs/c" } else { "libs" };
                replace_library(&p.root().join(dir));
            }
            touch_low(p);
        });
    }
}

/// Puts another library into a directory, without the build script.
fn replace_library(dir: &Path) {
    fs::write(dir.join("code.c"), "int code(void) { return 3; }\n").unwrap();
    run_in(dir, &["cc", "-c", "code.c", "-o", "code.o"]);
    fs::remove_file(dir.join("libcode.a")).unwrap();
    run_in(dir, &["ar", "crsD", "libcode.a", "code.o"]);
}

fn run_in(dir: &Path, line: &[&str]) {
    let mut command = Command::new(line[0]);
    let status = command.args(&line[1..]).current_dir(dir).status();
    assert!(status.unwrap().success());
}

/// A package without a script bundles a library that the script of another one has made.
#[cargo_test]
fn library_found_through_another_package() {
    let script = r#"library(&out(), "code");
        println!("cargo::rustc-link-search=native={}", out());
        println!("cargo::rerun-if-changed=code.c");"#;
    let p = scripted(script, "pub fn text() -> String { String::new() }", "").build();
    p.change_file(
        "middle/src/lib.rs",
        r#"#[link(name = "code", kind = "static")] extern "C" { fn code() -> i32; }
        pub fn middle() -> String { script::text() + &unsafe { code() }.to_string() }"#,
    );
    check("bundled above", &p, true, |p| {
        p.change_file("script/code.c", "int code(void) { return 2; }\n");
    });
    let script = r#"for name in read("input").split_whitespace() {
            let dir = format!("{}/{name}", out());
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write("code.c", format!("int code(void) {{ return {name}; }}")).unwrap();
            library(&dir, "code");
            println!("cargo::rustc-link-search=native={dir}");
        }
        println!("cargo::rerun-if-changed=input");"#;
    p.change_file("script/build.rs", &build_script(script));
    p.change_file("script/input", "3 4");
    check("in another order", &p, true, |p| {
        p.change_file("script/input", "4 3");
    });
}

#[cargo_test]
fn linker_arguments_name_files() {
    let script = r#"run(Command::new("cc").args(["-c", "code.c", "-o", "code.o"]));
        let object = std::env::current_dir().unwrap().join("code.o");
        println!("cargo::rustc-link-arg={}", object.display());
        println!("cargo::rerun-if-changed=code.c");"#;
    let main = r#"extern "C" { fn code() -> i32; }
        fn main() { println!("{} {}", unsafe { code() }, low::low()) }"#;
    let p = workspace(&["app"])
        .bin("app", ON_LOW, main)
        .file("app/code.c", "int code(void) { return 1; }\n")
        .file("app/build.rs", &build_script(script))
        .build();
    check("the script runs", &p, true, |p| {
        p.change_file("app/code.c", "int code(void) { return 2; }\n");
    });
    check("the object is replaced", &p, true, |p| {
        p.change_file("app/other.c", "int code(void) { return 3; }\n");
        run_in(
            &p.root().join("app"),
            &["cc", "-c", "other.c", "-o", "code.o"],
        );
        touch_low(p);
    });
}

/// The second script reads what the first passes on, and its mode.
#[cargo_test]
fn scripts_run_after_scripts() {
    use std::os::unix::fs::PermissionsExt;
    let script = r##"let tool = format!("{}/tool", out());
        std::fs::write(&tool, "#!/bin/sh\necho tool\n").unwrap();
        let mode = u32::from_str_radix(&read("input"), 8).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&tool, mode).unwrap();
        println!("cargo::metadata=tool={tool}");
        println!("cargo::rerun-if-changed=input");"##;
    let p = scripted(
        script,
        "pub fn text() -> String { String::new() }",
        "links = \"script\"",
    )
    .build();
    let mode: fs::Permissions = PermissionsExt::from_mode(0o644);
    fs::set_permissions(p.root().join("script/input"), mode).unwrap();
    p.change_file("script/input", "644");
    p.change_file(
        "middle/build.rs",
        r#"fn main() {
            println!("cargo::rerun-if-changed=build.rs");
            let tool = std::env::var("DEP_SCRIPT_TOOL").unwrap();
            let runs = std::process::Command::new(tool).output().is_ok();
            println!("cargo::rustc-env=RUNS={runs}");
        }"#,
    );
    p.change_file(
        "middle/src/lib.rs",
        r#"pub fn middle() -> String { script::text() + env!("RUNS") }"#,
    );
    check("the mode of a file", &p, true, |p| {
        p.change_file("script/input", "755")
    });
}

/// A build script that links a library which comes out the same runs as it does with the released cargo.
#[cargo_test]
fn script_runs_where_its_executable_was_dirty() {
    let p = scripted(
        r#"println!("cargo::rerun-if-changed=build.rs");
           println!("cargo::rustc-env=INPUT={}{}", read("input"), low::low());"#,
        r#"pub fn text() -> String { env!("INPUT").to_owned() }"#,
        "[build-dependencies]\nlow.path = \"../low\"",
    )
    .build();
    check("touched below", &p, true, |p| {
        p.change_file("script/input", "2");
        touch_low(p);
    });
}

/// A macro with a script below it reads templates when it runs.
#[cargo_test]
fn macros_read_their_own_package() {
    for script in [true, false] {
        let text = r#"#[proc_macro]
            pub fn text(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
                let path = concat!(env!("CARGO_MANIFEST_DIR"), "/files/text");
                format!("{:?}", std::fs::read_to_string(path).unwrap()).parse().unwrap()
            }"#;
        let mut p = workspace(&["templates", "app"])
            .lib(
                "templates",
                &format!("[lib]\nproc-macro = true\n{ON_LOW}"),
                text,
            )
            .file("templates/files/text", "one")
            .bin(
                "app",
                &format!("{ON_LOW}templates.path = '../templates'"),
                r#"fn main() { println!("{}", templates::text!()) }"#,
            );
        if script {
            let script = r#"fn main() { println!("cargo::rerun-if-changed=files"); }"#;
            p = p.file("templates/build.rs", script);
        }
        let p = p.build();
        check(&format!("script: {script}"), &p, true, |p| {
            p.change_file("templates/files/text", "two");
            touch_low(p);
        });
    }
}

/// No script declares what the macros read. The released cargo expands them again whenever the package is
/// compiled for another reason.
#[cargo_test]
fn undeclared_inputs_of_macros() {
    let lib = r#"pub fn text() -> String {
        format!("{} {} {}", macros::directory!("listed"), macros::variable!(VARIABLE), low::low())
    }"#;
    let p = scripted("", lib, "").build();
    fs::remove_file(p.root().join("script/build.rs")).unwrap();
    check("a new file", &p, true, |p| {
        p.change_file("script/listed/second", "second");
        touch_low(p);
    });
    check("a changed file", &p, true, |p| {
        p.change_file("script/listed/second", "third");
        touch_low(p);
    });
    check_with("a variable", &p, true, "2", touch_low);
    p.change_file(
        "script/src/lib.rs",
        &lib.replace("(VARIABLE)", "(CARGO_VARIABLE)"),
    );
    check_with("a variable named like Cargo's", &p, true, "2", touch_low);
    let configured = "pub fn text() -> String { macros::variable!(CONFIGURED).to_owned() }";
    p.change_file("script/src/lib.rs", configured);
    check("a configured variable", &p, true, |p| {
        build(p, Project::incremental, "1");
        p.change_file(".cargo/config.toml", "env.CONFIGURED = 'value'");
        touch_low(p);
    });
    // The macro is re-exported by one library and used by another.
    p.change_file(
        "script/src/lib.rs",
        "pub use macros::directory; pub fn text() -> String { low::low().to_string() }",
    );
    p.change_file("middle/listed/first", "1");
    p.change_file(
        "middle/src/lib.rs",
        r#"pub fn middle() -> String { script::text() + script::directory!("listed") }"#,
    );
    check("re-exported", &p, true, |p| {
        p.change_file("middle/listed/second", "2");
        touch_low(p);
    });
}

/// Files that dep-info names count wherever they are, and whatever their times.
#[cargo_test]
fn sources_reached_through_out_dir() {
    let generates =
        r#"std::fs::write(out() + "/generated.rs", "const GENERATED: u32 = 1;").unwrap();"#;
    let lib = r#"include!(concat!(env!("OUT_DIR"), "/generated.rs"));
        include!(concat!(env!("OUT_DIR"), "/linked/code.rs"));
        pub fn text() -> String {
            let page = include_str!(concat!(env!("OUT_DIR"), "/../../../../../shared/page"));
            format!("{GENERATED} {LINKED} {page} {}", low::low())
        }"#;
    let p = scripted(&format!("{LINKED_SCRIPT}{generates}"), lib, "").build();
    p.change_file("shared/code.rs", "const LINKED: u32 = 1;");
    p.change_file("shared/page", "one");
    check("generated and edited by hand", &p, true, |p| {
        let generated = p.in_target("generated.rs");
        assert_eq!(generated.len(), 1);
        fs::write(&generated[0], "const GENERATED: u32 = 2;").unwrap();
        touch_low(p);
    });
    check("behind a link", &p, true, |p| {
        p.change_file("shared/code.rs", "const LINKED: u32 = 2;");
        touch_low(p);
    });
    check("behind ..", &p, true, |p| {
        p.change_file("shared/page", "two");
        touch_low(p);
    });
}

#[cargo_test]
fn older_and_future_times() {
    let lib = r#"pub fn text() -> String { format!("{} {}", include_str!("page"), low::low()) }"#;
    let p = scripted("", lib, "").build();
    fs::remove_file(p.root().join("script/build.rs")).unwrap();
    p.change_file("script/src/page", "one");
    let page = p.root().join("script/src/page");
    let (an_hour, a_day) = (Duration::from_hours(1), Duration::from_hours(24));
    let a_day_ago = SystemTime::now() - a_day;
    check("older and different", &p, true, |p| {
        fs::write(&page, "two").unwrap();
        set_modified(&page, a_day_ago - an_hour);
        touch_low(p);
    });
    // From then on it is always newer than what was made of it.
    fs::write(&page, "three").unwrap();
    set_modified(&page, SystemTime::now() + an_hour);
    build(&p, Project::incremental, "1");
    p.change_file("script/src/lib.rs", &lib.replace("{} {}", "{}, {}"));
    let expected = copied(&p, |p| {
        build(p, Project::released, "1");
        print(p)
    });
    build(&p, Project::incremental, "1");
    assert_eq!((&*print(&p), &*expected), ("three, 7\n", "three, 7\n"));
}

/// A new change time (`ctime`) of a file is no reason to link again.
#[cargo_test]
fn links_survive_changes_of_metadata() {
    let p = quick().build();
    p.incremental("build -p app").run();
    p.incremental("build -p app --features app/extra").run();
    p.incremental("build -p app").run();
    assert_not_linked(&p, "features were switched and back");
    fs::remove_file(p.bin("app")).unwrap();
    assert_not_linked(&p, "the uplifted file was deleted");
    fs::hard_link(p.bin("app"), p.root().join("kept")).unwrap();
    assert_not_linked(&p, "a hard link was made");
}

/// A wrapper and a linker are programs, too.
#[cargo_test]
fn wrapper_and_linker_are_edited() {
    let main = r#"extern "C" { fn code() -> i32; }
        fn main() { println!("{} {} {}", cfg!(edited), unsafe { code() }, low::low()) }"#;
    let p = workspace(&["app"])
        .bin("app", ON_LOW, main)
        .file("code.c", "int code(void) { return 1; }\n")
        .file("other.c", "int code(void) { return 2; }\n")
        .file("flags", "--cfg original")
        .file("linked", "code.c")
        .executable("wrapper", "#!/bin/sh\nexec \"$@\" $(cat flags)\n")
        .executable(
            "linker",
            "#!/bin/sh\nexec cc \"${LINKED:-$(cat linked)}\" \"$@\"\n",
        )
        .file(
            ".cargo/config.toml",
            "build.rustc-wrapper = './wrapper'\n[target.'cfg(unix)']\nlinker = './linker'\n",
        )
        .build();
    let edit = |name: &str, from: &str, to: &str| {
        let text = p.read_file(name).replace(from, to);
        fs::write(p.root().join(name), text).unwrap();
        touch_low(&p);
    };
    check("what the linker reads", &p, true, |_| {
        edit("linked", "code.c", "other.c");
    });
    check("linker", &p, true, |_| {
        edit("linker", "$(cat linked)", "code.c")
    });
    check("its environment", &p, true, |p| {
        build(p, Project::incremental, "1");
        let linked = "env.LINKED = 'other.c'\n";
        p.change_file(
            ".cargo/config.toml",
            &format!("{linked}{}", p.read_file(".cargo/config.toml")),
        );
        touch_low(p);
    });
    check("what the wrapper reads", &p, true, |_| {
        edit("flags", "original", "edited");
    });
    check("wrapper", &p, true, |_| {
        edit("wrapper", "$(cat flags)", "--cfg original")
    });
}

/// What a flag, a variable or an archive names is an input, too.
#[cargo_test]
fn files_that_flags_name() {
    let main = r#"extern "C" { fn code() -> i32; }
        fn main() { println!("{} {} {}", foo::FOO, unsafe { code() }, low::low()) }"#;
    for (flags, archive) in [
        ("'-Lnative=libs', '-lstatic=code'", "rcT"),
        ("'-lcode'", "rc"),
    ] {
        let config = format!(
            "env.LIBRARY_PATH = {{ value = 'libs', relative = true }}\n\
             build.rustflags = ['--extern', 'foo=libfoo.rlib', {flags}]\n"
        );
        let p = workspace(&["app"])
            .bin("app", ON_LOW, main)
            .file(".cargo/config.toml", &config)
            .file("foo.rs", "pub const FOO: u32 = 1;\n")
            .file("code.c", "int code(void) { return 1; }\n")
            .file("libs/other", "")
            .build();
        let make_crate = |p: &Project| run_in(&p.root(), &["rustc", "--crate-type=rlib", "foo.rs"]);
        let make_library = |p: &Project| {
            run_in(&p.root(), &["cc", "-c", "code.c", "-o", "code.o"]);
            // A thin archive only names the object.
            if archive == "rc" || !p.root().join("libs/libcode.a").exists() {
                run_in(&p.root(), &["ar", archive, "libs/libcode.a", "code.o"]);
            }
        };
        make_crate(&p);
        make_library(&p);
        check("a library", &p, true, |p| {
            p.change_file("code.c", "int code(void) { return 2; }\n");
            make_library(p);
            touch_low(p);
        });
        check("a crate", &p, true, |p| {
            p.change_file("foo.rs", "pub const FOO: u32 = 2;\n");
            make_crate(p);
            touch_low(p);
        });
    }
}

/// A program on `low`.
fn quick() -> ProjectBuilder {
    workspace(&["app"]).bin(
        "app",
        &format!("[features]\nextra = []\n{ON_LOW}"),
        r#"fn main() { println!("{}", low::low()) }"#,
    )
}

/// Asserts that after an edit below, `app` is neither compiled nor linked.
#[track_caller]
fn assert_not_linked(p: &Project, what: &str) {
    touch_low(p);
    let made = p.made("build -p app");
    assert_eq!(Vec::from_iter(made), ["low lib"], "{what}");
    assert_eq!(print(p), "7\n");
}

/// Nothing that a quick build writes within one tick of the clock is forgotten.
#[cargo_test]
fn quick_units_are_remembered() {
    let p = quick().build();
    for round in 0..5 {
        p.build_dir().rm_rf();
        p.incremental("build -p app").run();
        assert_not_linked(&p, &format!("round {round}"));
    }
}
