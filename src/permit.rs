//! The permit of a job that is parked.
//!
//! The [link gate](crate::link_gate) parks a job through a [`Parking`], from any thread, when a compiler calls
//! its linker. The queue receives a [`PermitSender`] and sends [`Link`](Permit::Link) once all outputs are
//! ready and there is a slot. A sender that is dropped sends [`Abort`](Permit::Abort), so no job waits for ever.

use std::fmt;
use std::sync::{Arc, mpsc};

/// What the queue sends to a job that is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// All outputs that the job links are ready, and it has a slot.
    Link,
    /// The job has to end without an error of its own: it will never have that, or the build stops.
    Abort,
}

/// Sends one [`Permit`] to a job that is parked. Dropped unsent, it sends [`Permit::Abort`].
pub struct PermitSender(Option<Box<dyn FnOnce(Permit) + Send>>);

impl PermitSender {
    /// Creates a sender that passes the permit to `deliver`, which must not block.
    pub fn new(deliver: impl FnOnce(Permit) + Send + 'static) -> Self {
        PermitSender(Some(Box::new(deliver)))
    }

    /// Sends `permit` to the job. Never blocks; a job that has ended does not receive it.
    pub fn send(mut self, permit: Permit) {
        if let Some(deliver) = self.0.take() {
            deliver(permit);
        }
    }
}

impl Drop for PermitSender {
    fn drop(&mut self) {
        if let Some(deliver) = self.0.take() {
            deliver(Permit::Abort);
        }
    }
}

impl fmt::Debug for PermitSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PermitSender")
    }
}

/// Parks a job.
#[derive(Clone)]
pub struct Parking(Arc<dyn Fn(PermitSender) + Send + Sync>);

impl Parking {
    /// `send` brings the sender to the queue, without blocking.
    pub fn new(send: impl Fn(PermitSender) + Send + Sync + 'static) -> Self {
        Parking(Arc::new(send))
    }

    /// Parks the job. `deliver` receives its permit.
    pub fn park(&self, deliver: impl FnOnce(Permit) + Send + 'static) {
        (self.0)(PermitSender::new(deliver));
    }

    /// Parks the job and blocks until the queue has sent its permit.
    pub fn park_and_wait(&self) -> Permit {
        let (sender, permit) = mpsc::channel();
        self.park(move |permit| {
            // The other end is this very call.
            let _ = sender.send(permit);
        });
        permit.recv().unwrap_or(Permit::Abort)
    }
}
