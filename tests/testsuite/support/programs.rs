//! A workspace whose programs print what build scripts and procedural macros read when it was built.

use cargo_test_support::{ProjectBuilder, project};

use super::BuilderExt;

/// A package of the workspace.
pub struct Package {
    pub name: &'static str,
    /// What follows in its manifest.
    manifest: &'static str,
    /// The files that are edited: `{value}` stands for a digit.
    pub files: &'static [(&'static str, &'static str)],
    /// Other files.
    fixed: &'static [(&'static str, &'static str)],
}

/// The binaries.
pub const PROGRAMS: [&str; 3] = ["x", "y", "z"];

/// A library that reads a directory with a macro.
const LISTS: &str =
    r#"pub fn text() -> String { format!("{} {value}", derive::directory!("list")) }"#;

/// Functions for build scripts.
const HELPERS: &str = r#"
    #![allow(dead_code)]
    use std::process::Command;

    fn run(command: &mut Command) {
        assert!(command.status().unwrap().success());
    }

    fn out() -> String {
        std::env::var("OUT_DIR").unwrap()
    }

    fn read(path: &str) -> String {
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    }

    /// Makes a C library in a directory.
    fn library(dir: &str, name: &str) {
        std::fs::create_dir_all(dir).unwrap();
        let (object, library) = (format!("{dir}/{name}.o"), format!("{dir}/lib{name}.a"));
        run(Command::new("cc").args(["-c", &format!("{name}.c"), "-o", &object]));
        let _ = std::fs::remove_file(&library);
        run(Command::new("ar").args(["crsD", &library, &object]));
    }
"#;

/// A build script with this body.
pub fn build_script(body: &str) -> String {
    format!("{HELPERS}\nfn main() {{ {body} }}")
}

pub const PACKAGES: [Package; 17] = [
    Package {
        name: "low",
        manifest: "",
        files: &[("src/lib.rs", "pub fn text() -> String { private().to_string() }\nfn private() -> u32 { {value} }")],
        fixed: &[],
    },
    Package {
        name: "derive",
        manifest: "[lib]\nproc-macro = true",
        files: &[("src/lib.rs", MACROS)],
        fixed: &[],
    },
    Package {
        name: "template",
        manifest: "[lib]\nproc-macro = true\n[dependencies]\nlow.path = \"../low\"",
        files: &[("files/text", "{value}")],
        fixed: &[
            ("build.rs", TEMPLATE_SCRIPT),
            ("src/lib.rs", TEMPLATE),
        ],
    },
    // Scripts, by what they declare.
    Package {
        name: "by-file",
        manifest: "links = \"by-file\"",
        files: &[("value", "{value}"), ("mode", "{value}")],
        fixed: &[
            ("build.rs", BY_FILE_SCRIPT),
            (
                "src/lib.rs",
                "include!(concat!(env!(\"OUT_DIR\"), \"/generated.rs\"));
                pub fn text() -> String { GENERATED.to_string() }",
            ),
        ],
    },
    Package {
        name: "by-directory",
        manifest: "[dependencies]\nderive.path = \"../derive\"",
        files: &[("list/first", "{value}"), ("list/optional", "{value}"), ("src/lib.rs", LISTS)],
        fixed: &[("build.rs", r#"println!("cargo::rerun-if-changed=list");"#)],
    },
    Package {
        name: "by-variable",
        manifest: "[dependencies]\nderive.path = \"../derive\"\nlow.path = \"../low\"",
        files: &[("src/lib.rs", r#"pub fn text() -> String { format!("{} {value} {}", derive::variable!(VARIABLE), low::text()) }"#)],
        fixed: &[("build.rs", r#"println!("cargo::rerun-if-env-changed=VARIABLE");"#)],
    },
    Package {
        name: "by-nothing",
        manifest: "[dependencies]\nderive.path = \"../derive\"",
        files: &[("list/first", "{value}"), ("list/optional", "{value}"), ("src/lib.rs", LISTS)],
        fixed: &[("build.rs", "")],
    },
    // What no script declares.
    Package {
        name: "undeclared",
        manifest: "[dependencies]\nderive.path = \"../derive\"\nlow.path = \"../low\"",
        files: &[("list/first", "{value}"), ("list/optional", "{value}"), ("src/lib.rs", LISTS)],
        fixed: &[],
    },
    // C code.
    Package {
        name: "c-out",
        manifest: "links = \"c-out\"",
        files: &[("c_out.c", "int c_out(void) { return {value}; }")],
        fixed: &[
            (
                "build.rs",
                r#"library(&out(), "c_out");
                println!("cargo::rerun-if-changed=c_out.c");
                println!("cargo::rustc-link-search=native={}", out());"#,
            ),
            (
                "src/lib.rs",
                "#[link(name = \"c_out\", kind = \"static\")] extern \"C\" { fn c_out() -> i32; }
                pub fn text() -> String { unsafe { c_out() }.to_string() }",
            ),
        ],
    },
    Package {
        name: "c-source",
        manifest: "links = \"c-source\"\n[dependencies]\nlow.path = \"../low\"",
        files: &[("c_source.c", "int c_source(void) { return {value}; }")],
        fixed: &[
            (
                "build.rs",
                r#"library("../libs", "c_source");
                println!("cargo::rerun-if-changed=c_source.c");
                println!("cargo::rustc-link-search=native=libs");"#,
            ),
            (
                "src/lib.rs",
                "#[link(name = \"c_source\", kind = \"static\", modifiers = \"-bundle\")]
                extern \"C\" { fn c_source() -> i32; }
                pub fn text() -> String { unsafe { c_source() }.to_string() + &low::text() }",
            ),
        ],
    },
    // Sources behind links and `..`.
    Package {
        name: "linked",
        manifest: "[dependencies]\nlow.path = \"../low\"",
        files: &[("../shared/code.rs", "const CODE: u32 = {value};"), ("../shared/page", "{value}")],
        fixed: &[
            ("build.rs", LINKED_SCRIPT),
            (
                "src/lib.rs",
                "include!(concat!(env!(\"OUT_DIR\"), \"/linked/code.rs\"));
                pub fn text() -> String {
                    let page = include_str!(concat!(env!(\"OUT_DIR\"), \"/../../../../../shared/page\"));
                    format!(\"{CODE} {page} {}\", low::text())
                }",
            ),
        ],
    },
    // A script that reads what another one has made.
    Package {
        name: "chain",
        manifest: "[dependencies]\nby-file.path = \"../by-file\"",
        files: &[("src/lib.rs", "pub fn text() -> String { format!(\"{} {value}\", env!(\"TOOL\")) }")],
        fixed: &[("build.rs", CHAIN_SCRIPT)],
    },
    Package {
        name: "top",
        manifest: TOP_MANIFEST,
        files: &[("src/lib.rs", TOP)],
        fixed: &[],
    },
    Package {
        name: "above",
        manifest: "[dependencies]\ntop.path = \"../top\"",
        files: &[("src/lib.rs", "pub fn text() -> String { format!(\"{} {value}\", top::text()) }")],
        fixed: &[],
    },
    Package {
        name: "x",
        manifest: "[dependencies]\nabove.path = \"../above\"",
        files: &[("src/main.rs", r#"fn main() { println!("{} {value}", above::text()) }"#)],
        fixed: &[],
    },
    Package {
        name: "y",
        manifest: "[dependencies]\nlow.path = \"../low\"\ntop.path = \"../top\"",
        files: &[("src/main.rs", r#"fn main() { println!("{} {} {value}", low::text(), top::number!()) }"#)],
        fixed: &[],
    },
    // Its script is linked with a library.
    Package {
        name: "z",
        manifest: "[dependencies]\nc-out.path = \"../c-out\"\n[build-dependencies]\nlow.path = \"../low\"",
        files: &[("src/main.rs", r#"fn main() { println!("{} {} {value}", env!("LOW"), c_out::text()) }"#)],
        fixed: &[(
            "build.rs",
            r#"println!("cargo::rerun-if-changed=build.rs");
            println!("cargo::rustc-env=LOW={}", low::text());"#,
        )],
    },
];

/// Procedural macros that read what no build script declares, and one that is a number.
pub const MACROS: &str = r#"
    use proc_macro::TokenStream;

    #[proc_macro]
    pub fn number(_: TokenStream) -> TokenStream { "{value}".parse().unwrap() }

    #[proc_macro]
    pub fn variable(name: TokenStream) -> TokenStream {
        let value = std::env::var(name.to_string()).unwrap_or_default();
        format!("{value:?}").parse().unwrap()
    }

    #[proc_macro]
    pub fn directory(name: TokenStream) -> TokenStream {
        let root = std::env::var("CARGO_MANIFEST_DIR").unwrap();
        let dir = format!("{root}/{}", name.to_string().trim_matches('"'));
        let mut files: Vec<String> = std::fs::read_dir(dir).unwrap()
            .map(|file| {
                let file = file.unwrap();
                let text = std::fs::read_to_string(file.path()).unwrap();
                format!("{}={}", file.file_name().to_str().unwrap(), text.trim())
            })
            .collect();
        files.sort();
        format!("{:?}", files.join(" ")).parse().unwrap()
    }
"#;

const TEMPLATE_SCRIPT: &str = r#"
    println!("cargo::rerun-if-changed=files");
    let text = format!("compiled {}", read("files/text"));
    std::fs::write(format!("{}/compiled", out()), text).unwrap();
"#;

const TEMPLATE: &str = r#"
    use proc_macro::TokenStream;

    #[proc_macro]
    pub fn text(_: TokenStream) -> TokenStream {
        let _ = low::text();
        let read = |path| std::fs::read_to_string(path).unwrap().trim().to_owned();
        let plain = read(concat!(env!("CARGO_MANIFEST_DIR"), "/files/text"));
        let compiled = read(concat!(env!("OUT_DIR"), "/compiled"));
        format!("{:?}", format!("{plain} {compiled}")).parse().unwrap()
    }
"#;

const BY_FILE_SCRIPT: &str = r##"
    let source = format!("pub const GENERATED: u32 = {};", read("value"));
    std::fs::write(format!("{}/generated.rs", out()), source).unwrap();
    let tool = format!("{}/tool", out());
    std::fs::write(&tool, "#!/bin/sh\necho tool\n").unwrap();
    let is_executable = read("mode").parse::<u32>().unwrap() % 2 == 1;
    let mode = if is_executable { 0o755 } else { 0o644 };
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(&tool, mode).unwrap();
    println!("cargo::rerun-if-changed=value");
    println!("cargo::rerun-if-changed=mode");
    println!("cargo::metadata=tool={tool}");
"##;

pub const LINKED_SCRIPT: &str = r#"
    println!("cargo::rerun-if-changed=build.rs");
    let link = format!("{}/linked", out());
    let _ = std::fs::remove_file(&link);
    let shared = std::env::current_dir().unwrap().join("../shared");
    std::os::unix::fs::symlink(shared, link).unwrap();
"#;

const CHAIN_SCRIPT: &str = r#"
    println!("cargo::rerun-if-changed=build.rs");
    let tool = std::env::var("DEP_BY_FILE_TOOL").unwrap();
    let runs = std::process::Command::new(tool).output().is_ok();
    println!("cargo::rustc-env=TOOL={runs}");
"#;

const TOP_MANIFEST: &str = r#"
    [features]
    extra = []
    [dependencies]
    derive.path = "../derive"
    template.path = "../template"
    by-file.path = "../by-file"
    by-directory.path = "../by-directory"
    by-variable.path = "../by-variable"
    by-nothing.path = "../by-nothing"
    undeclared.path = "../undeclared"
    c-out.path = "../c-out"
    c-source.path = "../c-source"
    linked.path = "../linked"
    chain.path = "../chain"
"#;

const TOP: &str = r#"
    pub use derive::number;

    pub fn text() -> String {
        let number = format!("{} {value} {}", derive::number!(), cfg!(feature = "extra"));
        [
            number,
            template::text!().to_owned(),
            by_file::text(),
            by_directory::text(),
            by_variable::text(),
            by_nothing::text(),
            undeclared::text(),
            c_out::text(),
            c_source::text(),
            linked::text(),
            chain::text(),
        ]
        .join("; ")
    }
"#;

/// The workspace, with all values 0.
pub fn programs() -> ProjectBuilder {
    let members = PACKAGES.map(|package| package.name);
    let root =
        format!("[workspace]\nresolver = \"2\"\nmembers = {members:?}\n[profile.dev]\ndebug = 0\n");
    let mut p = project().file("Cargo.toml", &root);
    for it in &PACKAGES {
        p = p.package(it.name, it.manifest);
        for (path, text) in it.files.iter().chain(it.fixed) {
            let mut text = text.replace("{value}", "0");
            if *path == "build.rs" {
                text = build_script(&text);
            }
            p = p.file(format!("{}/{path}", it.name), &text);
        }
    }
    p
}
