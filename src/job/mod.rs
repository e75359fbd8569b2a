//! One job: where it is in its life, its channel to the queue, and how its compiler runs.
//!
//! ```text
//!            dependencies                               paused ┌─────────▶ Paused
//!            are ready        started       Metadata           │  resumed    │
//!   Waiting ──────────▶ Ready ──────▶ Frontend ──────────▶ Codegen ◀─────────┤
//!      │                 │             │ │ │                │    All        │ All
//!      │                 │ started,    │ │ │      All       ├──────────▶ Done ◀─┐
//!      │                 │ up to date  │ │ └────────────────┼──────────────┘ ▲  │
//!      │                 ▼             │ └────────────┐     │           All  │  │
//!      │               Fresh ──────────┼──────────────┼─────┼────────────────┘  │
//!      │ a dependency    │             │       parked ▼     │  permit           │ All
//!      ▼ has failed      ▼             ▼           Parked ──┼──────────▶ Linking
//!    Failed            Failed ◀────────┴──────────────┴─────┴─────────────┘
//! ```

mod channel;
pub mod notification;

use crate::graph::Artifact;

pub use channel::{Compiler, Event, JobChannel, Mailbox, Notices};

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

/// A job has changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The number of the job, in the order in which jobs were added to the plan.
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
    /// It runs, its metadata is written, and dependents that need no more than that may start.
    Codegen,
    /// Its metadata is written and its compiler is stopped, because a job of higher priority runs in its
    /// place.
    Paused,
    /// It started early, has compiled, and waits with an idle compiler until it may link.
    Parked,
    /// It was parked and links.
    Linking,
    /// Its inputs are up to date, so the outputs of an earlier build stand. It only replays the messages
    /// of that build and puts its outputs where users look for them.
    Fresh,
    /// It has ended well: all outputs are ready.
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
    /// Whether a job in this state may go to `next`: the arrows of the picture in the
    /// [module's documentation](self).
    pub fn may_become(self, next: State) -> bool {
        use State::*;
        matches!(
            (self, next),
            (Waiting, Ready)
                | (Ready, Frontend | Fresh)
                | (Frontend, Codegen | Parked | Done)
                | (Parked, Linking)
                | (Codegen, Paused)
                | (Paused, Codegen)
                // It was resumed by another process than cargo.
                | (Paused, Done)
                | (Codegen | Fresh | Linking, Done)
                | (Waiting | Ready | Parked, Failed(Cause::Dependency))
                | (Parked, Failed(Cause::Stopped))
                | (
                    Frontend | Codegen | Paused | Fresh | Parked | Linking,
                    Failed(Cause::Own)
                )
        )
    }

    /// Whether a job in this state runs, on a slot and a token of its own.
    pub fn is_running(self) -> bool {
        matches!(
            self,
            State::Frontend | State::Codegen | State::Fresh | State::Linking
        )
    }

    /// Returns what a job in this state has produced.
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
    fn only_a_pause_leads_back() {
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
