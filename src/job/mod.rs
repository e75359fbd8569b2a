//! The states of a job, and its channel to the queue.
//!
//! ```text
//!            dependencies                               paused ┌─────────▶ Paused
//!            are ready        started       Metadata           │  resumed    │
//!   Waiting ──────────▶ Ready ──────▶ Frontend ──────────▶ Codegen ◀─────────┤
//!      │                 │             │ │ │               │ │    All        │ All
//!      │                 │ started,    │ │ │      All      │ ├──────────▶ Done ◀─┐
//!      │                 │ up to date  │ │ └───────────────┼─┼──────────────┘ ▲  │
//!      │                 ▼             │ └────────────┐    │ │           All  │  │
//!      │               Fresh ──────────┼──────────────┼────┼─┼────────────────┘  │
//!      │ a dependency    │             │       parked ▼    ▼ │  permit           │ All
//!      ▼ has failed      ▼             ▼           Parked ───┼──────────▶ Linking
//!    Failed            Failed ◀────────┴──────────────┴──────┴─────────────┘
//! ```

mod announcer;
mod channel;
pub mod notification;
#[cfg_attr(not(target_os = "linux"), path = "no_watch.rs")]
mod watch;

use crate::graph::Artifact;

pub use channel::{Compiler, Event, JobChannel, Lane, Mailbox};
pub use watch::MetadataWatch;

/// What kind of work a job does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A compiler that announces the metadata of a library, and can be paused after that.
    Library,
    /// The run of a build script.
    ScriptRun,
    /// A compiler that announces nothing, rustdoc, and anything else.
    #[default]
    Other,
}

/// A change of a job's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The number of the job in the plan.
    pub job: usize,
    /// The state before.
    pub from: State,
    /// The state from here on.
    pub to: State,
    /// When, in µs of the build's clock.
    pub at: u64,
}

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// A dependency has not yet produced what the job needs to start.
    Waiting,
    /// The job can start as soon as there is a slot for it.
    Ready,
    /// It runs, and has produced nothing yet.
    Frontend,
    /// It runs, and its metadata is written.
    Codegen,
    /// Its metadata is written, and its compiler is stopped in favour of a job of higher priority.
    Paused,
    /// It started early, has compiled, and waits for a permit to link.
    Parked,
    /// It was parked and links.
    Linking,
    /// It is up to date, and replays the messages of an earlier build.
    Fresh,
    /// All outputs are ready.
    Done,
    /// It will never produce what it has not produced so far.
    Failed(Cause),
}

/// Why a job has [`Failed`](State::Failed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It ran and ended with an error.
    Own,
    /// It can never start, or never link: a dependency will never produce what it needs.
    Dependency,
    /// It was parked when the build stopped.
    Stopped,
}

impl State {
    /// True for the arrows of the picture in the [module's documentation](self).
    pub fn may_become(self, next: State) -> bool {
        use State::*;
        matches!(
            (self, next),
            (Waiting, Ready)
                | (Ready, Frontend | Fresh)
                | (Frontend, Codegen | Parked | Done)
                | (Codegen, Parked)
                | (Parked, Linking)
                | (Codegen, Paused)
                | (Paused, Codegen)
                // It was resumed by another process than cargo.
                | (Paused, Parked | Done)
                | (Codegen | Fresh | Linking, Done)
                | (Waiting | Ready | Parked, Failed(Cause::Dependency))
                | (Parked, Failed(Cause::Stopped))
                | (
                    Frontend | Codegen | Paused | Fresh | Parked | Linking,
                    Failed(Cause::Own)
                )
        )
    }

    /// True if the job holds a slot and a token.
    pub fn is_running(self) -> bool {
        matches!(
            self,
            State::Frontend | State::Codegen | State::Fresh | State::Linking
        )
    }

    /// Returns the last artifact that a job in this state has produced for sure.
    pub fn produced(self) -> Option<Artifact> {
        match self {
            State::Codegen | State::Paused => Some(Artifact::Metadata),
            State::Done => Some(Artifact::All),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paused_jobs_go_back() {
        use State::*;
        let onwards = [
            Waiting,
            Ready,
            Frontend,
            Codegen,
            Paused,
            Fresh,
            Parked,
            Linking,
            Done,
            Failed(Cause::Own),
            Failed(Cause::Dependency),
            Failed(Cause::Stopped),
        ];
        for (at, state) in onwards.iter().enumerate() {
            for earlier in &onwards[..=at] {
                let may = (*state, *earlier) == (Paused, Codegen);
                assert_eq!(state.may_become(*earlier), may, "{state:?} to {earlier:?}");
            }
        }
    }
}
