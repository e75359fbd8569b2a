//! A build of crates that were never built before, whose costs are guessed, and the next one.

use replay::simulate::{Pipelining, Schedule, Settings, guessed, known};
use snapbox::{IntoData, assert_data_eq, str};

use crate::graph::Graph;

#[track_caller]
fn check(graph: &Graph, jobs: u64, expected: impl IntoData) {
    let chart = |schedule, estimate| {
        graph.chart(&Settings::new(jobs, Pipelining::Link, schedule), estimate)
    };
    let charts = format!(
        "stock\n{}guessed\n{}known\n{}",
        chart(Schedule::Stock, known),
        chart(Schedule::CriticalPath, guessed),
        chart(Schedule::CriticalPath, known),
    );
    assert_data_eq!(charts, expected.raw());
}

#[test]
fn one_job() {
    let mut graph = Graph::new();
    let first = graph.lib("first", &[], 2, 2);
    let second = graph.lib("second", &[], 5, 3);
    let mut chain = graph.lib("chain-1", &[], 1, 1);
    for name in ["chain-2", "chain-3"] {
        chain = graph.lib(name, &[chain], 4, 1);
    }
    graph.bin("app", &[first, second, chain], [1, 1, 1]);
    check(
        &graph,
        1,
        str![[r#"
stock
  first   |            --==
  second  |                -----===
  chain-1 |-=
  chain-2 |  ----=
  chain-3 |       ----=
  app bin |                        -=#
guessed
  first   |            --==
  second  |                -----===
  chain-1 |-=
  chain-2 |  ----=
  chain-3 |       ----=
  app bin |                        -=#
known
  first   |                    --==
  second  |       -----===
  chain-1 |-=
  chain-2 |  ----=
  chain-3 |               ----=
  app bin |                        -=#

"#]],
    );
}

#[test]
fn a_diamond() {
    let mut graph = Graph::new();
    let bottom = graph.lib("bottom", &[], 2, 2);
    let left = graph.lib("left", &[bottom], 3, 1);
    let right = graph.lib("right", &[bottom], 8, 4);
    let other = graph.lib("other", &[bottom], 3, 1);
    graph.bin("app", &[left, right, other], [2, 2, 2]);
    check(
        &graph,
        2,
        str![[r#"
stock
  bottom  |--==
  left    |  ---=
  right   |      --------====
  other   |    ---=
  app bin |              --==##
guessed
  bottom  |--==
  left    |  ---=
  right   |      --------====
  other   |    ---=
  app bin |              --==##
known
  bottom  |--==
  left    |    ---_______=
  right   |  --------====
  other   |       ---____=
  app bin |          --==.##

"#]],
    );
}

#[test]
fn a_long_chain_beside_many_short_ones() {
    let mut graph = Graph::new();
    let mut needs: Vec<_> = ["k", "l", "m", "n"]
        .into_iter()
        .map(|name| {
            let base = graph.lib(&format!("{name}-base"), &[], 2, 0);
            graph.lib(name, &[base], 2, 0)
        })
        .collect();
    let base = graph.lib("long-base", &[], 6, 2);
    needs.push(graph.lib("long", &[base], 6, 2));
    graph.bin("app", &needs, [2, 0, 2]);
    check(
        &graph,
        2,
        str![[r#"
stock
  k-base    |--
  k         |            --
  l-base    |--
  l         |          --
  m-base    |  --
  m         |        --
  n-base    |    --
  n         |      --
  long-base |  ------==
  long      |          ------==
  app bin   |                --##
guessed
  k-base    |--
  k         |            --
  l-base    |--
  l         |          --
  m-base    |  --
  m         |        --
  n-base    |    --
  n         |      --
  long-base |  ------==
  long      |          ------==
  app bin   |                --##
known
  k-base    |--
  k         |            --
  l-base    |  --
  l         |            --
  m-base    |    --
  m         |          --
  n-base    |      --
  n         |        --
  long-base |------________==
  long      |      ------__==
  app bin   |                --##

"#]],
    );
}

#[test]
fn a_macro_in_the_middle() {
    let mut graph = Graph::new();
    let others = ["k", "l", "m"].map(|name| {
        let base = graph.lib(&format!("{name}-base"), &[], 3, 3);
        let middle = graph.lib(&format!("{name}-middle"), &[base], 1, 1);
        graph.lib(name, &[middle], 1, 1)
    });
    let syntax = graph.lib("syntax", &[], 4, 4);
    let derive = graph.compile("derive", "proc-macro", &[syntax], [2, 0, 2]);
    let user = graph.lib("user", &[derive], 8, 4);
    graph.bin("app", &[&[user], &others[..]].concat(), [2, 0, 2]);
    check(
        &graph,
        2,
        str![[r#"
stock
  k-base   |---===
  k-middle |                -=
  k        |                  -=
  l-base   |---===
  l-middle |                -=
  l        |                  -=
  m-base   |      ---===
  m-middle |              -=
  m        |                    -=
  syntax   |      ----====
  derive   |            --##
  user     |                    --------====
  app bin  |                            --..##
guessed
  k-base   |---===
  k-middle |                -=
  k        |                  -___=
  l-base   |---===
  l-middle |                -=
  l        |                  -=
  m-base   |      ---===
  m-middle |              -=
  m        |                    -=
  syntax   |      ----====
  derive   |            --##
  user     |                   --------====
  app bin  |                           --..##
known
  k-base   |---___________________===
  k-middle |              -=
  k        |                      -____=
  l-base   |   ---_____________===
  l-middle |            -=
  l        |                       -___=
  m-base   |        ---_____===
  m-middle |           -_____________=
  m        |                        -_=
  syntax   |----====
  derive   |      --##
  user     |          --------====
  app bin  |                         --.##

"#]],
    );
}

#[test]
fn two_binaries_on_one_library() {
    let mut graph = Graph::new();
    let lib = graph.lib("lib", &[], 2, 6);
    graph.bin("short", &[lib], [2, 1, 1]);
    graph.bin("also-short", &[lib], [2, 1, 1]);
    graph.bin("long", &[lib], [8, 4, 2]);
    check(
        &graph,
        2,
        str![[r#"
stock
  lib            |--======
  short bin      |         --=#
  also-short bin |  --=...#
  long bin       |     --------====##
guessed
  lib            |--======
  short bin      |         --=#
  also-short bin |  --=...#
  long bin       |     --------====##
known
  lib            |--======
  short bin      |            --=#
  also-short bin |        --=#
  long bin       |  --------====##

"#]],
    );
}

#[test]
fn codegen_that_is_paused() {
    let mut graph = Graph::new();
    let big = graph.lib("big", &[], 2, 8);
    let beside = graph.lib("beside", &[], 6, 4);
    let middle = graph.lib("middle", &[big], 6, 2);
    let top = graph.lib("top", &[middle, beside], 6, 2);
    graph.bin("app", &[top], [2, 2, 2]);
    check(
        &graph,
        2,
        str![[r#"
stock
  big     |--========
  beside  |------====
  middle  |          ------==
  top     |                ------==
  app bin |                      --==##
guessed
  big     |--========
  beside  |------====
  middle  |          ------==
  top     |                ------==
  app bin |                      --==##
known
  big     |--____========
  beside  |------________====
  middle  |  ------__________==
  top     |        ------____==
  app bin |              --==..##

"#]],
    );
}
