//! Measures the most memory that is held at a time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};

/// The system's allocator, which counts while it is asked to and else costs next to nothing.
pub struct Meter {
    counts: AtomicBool,
    /// Bytes that were allocated and not freed since the counting began. Negative where more was freed that
    /// is older.
    held: AtomicIsize,
    /// The maximum of `held`.
    peak: AtomicIsize,
}

impl Meter {
    pub const fn new() -> Self {
        Meter {
            counts: AtomicBool::new(false),
            held: AtomicIsize::new(0),
            peak: AtomicIsize::new(0),
        }
    }

    /// Acts, and returns also how many bytes all threads together held meanwhile at most, beyond those that
    /// they held before.
    pub fn peak<T>(&self, act: impl FnOnce() -> T) -> (T, usize) {
        self.held.store(0, Ordering::Relaxed);
        self.peak.store(0, Ordering::Relaxed);
        self.counts.store(true, Ordering::Relaxed);
        let done = act();
        self.counts.store(false, Ordering::Relaxed);
        (done, self.peak.load(Ordering::Relaxed).unsigned_abs())
    }

    fn changes(&self, by: isize) {
        if self.counts.load(Ordering::Relaxed) {
            let held = self.held.fetch_add(by, Ordering::Relaxed) + by;
            self.peak.fetch_max(held, Ordering::Relaxed);
        }
    }
}

// SAFETY: All of it is left to the system's allocator, with the caller's own arguments.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.changes(layout.size().cast_signed());
        // SAFETY: As the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.changes(layout.size().cast_signed());
        // SAFETY: As the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.changes(-layout.size().cast_signed());
        // SAFETY: As the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.changes(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: As the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_is_held_at_once() {
        // Not the one of this process, in which other tests allocate, too.
        let meter = Meter::new();
        let layout = Layout::new::<[u8; 1000]>();
        let allocate = || {
            // SAFETY: The layout has a size.
            unsafe { meter.alloc(layout) }
        };
        let free = |pointer| {
            // SAFETY: It comes from above, and is freed once.
            unsafe { meter.dealloc(pointer, layout) }
        };
        let older = allocate();
        let ((), peak) = meter.peak(|| {
            for _ in 0..3 {
                let (one, another) = (allocate(), allocate());
                free(one);
                free(another);
            }
        });
        assert_eq!(peak, 2000);
        assert_eq!(meter.peak(|| free(older)).1, 0);
    }
}
