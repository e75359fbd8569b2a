//! What a skeleton tells the stand-ins.
//!
//! In the place of a source file is a plan: the unit, or the units, that are compiled from it.

use std::path::Path;

use anyhow::{Context, Result, bail};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::recording::Unit;

/// In the environment of cargo: the real compiler, for what is not to be replayed.
pub const RUSTC: &str = "REPLAY_RUSTC";
/// In the environment of cargo: the file of the [`Log`](crate::Log).
pub const LOG: &str = "REPLAY_LOG";
/// In the environment of cargo: by how much less to sleep than was recorded.
pub const SPEED: &str = "REPLAY_SPEED";
/// In the environment of cargo: what starting and ending a stand-in costs, in ns.
pub const OVERHEAD: &str = "REPLAY_OVERHEAD";

/// The optimization level of what is built for the target, where the host's is [`HOST_LEVEL`].
pub const TARGET_LEVEL: u32 = 1;
/// The optimization level of what is built for the host.
pub const HOST_LEVEL: u32 = 0;
/// The codegen units asked for of what is built for the target, where the host's are
/// [`HOST_CODEGEN_UNITS`]. No run of a build script depends on it.
pub const TARGET_CODEGEN_UNITS: u32 = 16;
/// The codegen units asked for of what is built for the host.
pub const HOST_CODEGEN_UNITS: u32 = 17;
/// The plan of a build script's run, in the directory of its package.
pub const RUN: &str = "run.json";

/// For what a unit is built, where the same is built for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// To be run, or loaded, during the build.
    Host,
    /// The rest.
    Target,
}

/// The units of one source file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// In no order.
    pub units: Vec<Planned>,
}

/// A unit, and how to tell it from the others of its file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// Its place in the recording.
    pub place: usize,
    /// Whether it is compiled as a test.
    pub is_test: bool,
    /// What for, if it is told apart by that.
    pub side: Option<Side>,
    /// What to do.
    pub unit: Unit,
}

impl Side {
    /// The side with so many codegen units, as rustc is told them.
    pub fn of_codegen_units(units: &str) -> Self {
        match units.parse() {
            Ok(HOST_CODEGEN_UNITS) => Side::Host,
            _ => Side::Target,
        }
    }

    /// The side with this optimization level, as build scripts are told it.
    pub fn of_level(level: &str) -> Self {
        match level.parse() {
            Ok(HOST_LEVEL) => Side::Host,
            _ => Side::Target,
        }
    }

    /// The feature of packages that are built with different features for this side.
    pub fn feature(self) -> &'static str {
        match self {
            Side::Host => "host",
            Side::Target => "target",
        }
    }
}

impl Plan {
    /// Reads the plan in the place of a source file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path)?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no plan", path.display()))
    }

    /// The unit that is built now.
    ///
    /// # Errors
    ///
    /// There is none, or more than one: the skeleton is not what cargo makes of it.
    pub fn choose(self, is_test: bool, side: Side) -> Result<Planned> {
        let fits = |planned: &Planned| {
            planned.is_test == is_test && planned.side.is_none_or(|only| only == side)
        };
        let mut fitting = self.units.into_iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(planned), None) => Ok(planned),
            (None, _) => bail!("it has no unit for the {side:?}, test: {is_test}"),
            (Some(_), Some(_)) => bail!("it has several units for the {side:?}, test: {is_test}"),
        }
    }
}
