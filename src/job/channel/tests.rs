use super::*;
use crate::archive;
use crate::permit::Permit;
use std::fs;
use std::thread;

#[derive(Debug, PartialEq)]
enum Received {
    Output(u32, usize),
    Metadata(u32),
    Parked(u32),
    Finished(u32, Result<(), String>),
    Notice,
}

fn open(mailbox: &Mailbox<Received>, job: u32) -> JobChannel<Received> {
    mailbox.channel(move |event| match event {
        Event::Metadata => Received::Metadata(job),
        Event::Parked(permit) => {
            permit.send(Permit::Link);
            Received::Parked(job)
        }
        Event::Finished(result) => {
            Received::Finished(job, result.map_err(|error| error.to_string()))
        }
    })
}

fn receive_all(mailbox: &Mailbox<Received>) -> Vec<Received> {
    let mut received = Vec::new();
    loop {
        let batch = mailbox.try_pop_urgent();
        if batch.is_empty() {
            return received;
        }
        received.extend(batch);
    }
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn signal_takes_along_its_own_output() {
    let mailbox = Mailbox::new(100);
    let (flood, lib) = (open(&mailbox, 1), open(&mailbox, 2));
    flood.push_bounded(Received::Output(1, 0));
    lib.push_bounded(Received::Output(2, 0));
    flood.push_bounded(Received::Output(1, 1));
    lib.metadata_written();
    lib.push_bounded(Received::Output(2, 1));
    mailbox.notices().push(Received::Notice);
    assert_eq!(
        mailbox.try_pop_urgent(),
        [
            Received::Output(2, 0),
            Received::Metadata(2),
            Received::Notice
        ]
    );
    assert_eq!(
        receive_all(&mailbox),
        [
            Received::Output(1, 0),
            Received::Output(1, 1),
            Received::Output(2, 1)
        ]
    );
}

#[test]
fn metadata_is_sent_once() {
    let mailbox = Mailbox::new(1);
    let job = open(&mailbox, 1);
    job.finish_with(|| {
        job.metadata_written();
        job.metadata_written();
        Ok(())
    });
    job.metadata_written();
    drop(job);
    assert_eq!(
        receive_all(&mailbox),
        [Received::Metadata(1), Received::Finished(1, Ok(()))]
    );
}

#[cfg(target_os = "linux")]
#[test]
fn renamed_metadata_is_announced() {
    let dir = tempfile::tempdir().unwrap();
    let [rmeta, beside] = ["liba.rmeta", "beside"].map(|it| dir.path().join(it));
    let mailbox = Mailbox::new(1);
    let run = |job: u32, at_the_end: &dyn Fn()| {
        let mut channel = open(&mailbox, job);
        channel.set_compiler(Compiler {
            watch: Some(Arc::new(MetadataWatch::new().unwrap())),
            ..Compiler::default()
        });
        let (sender, seen) = std::sync::mpsc::channel();
        let on_written = move || sender.send(()).unwrap();
        channel.expect_metadata(&rmeta, on_written).unwrap();
        channel.finish_with(|| {
            let rustc = ProcessBuilder::new("rustc");
            let mut exec = |_: &ProcessBuilder, _, _: OnLine<'_>, _: OnLine<'_>| {
                fs::write(&beside, "metadata")?;
                fs::rename(&beside, &rmeta)?;
                seen.recv_timeout(LONG)?;
                assert_eq!(mailbox.pop_urgent(LONG), [Received::Metadata(job)]);
                // What it holds back.
                channel.metadata_written_to(&rmeta)?;
                at_the_end();
                Ok(())
            };
            channel.run_compiler(&rustc, &mut exec, &mut |_| Ok(()), &mut |_| Ok(()))
        });
        receive_all(&mailbox)
    };
    let again = || fs::write(&rmeta, "metadata").unwrap();
    assert_eq!(run(1, &again), [Received::Finished(1, Ok(()))]);
    let other = || fs::write(&rmeta, "other").unwrap();
    let is_replaced = |received: &[Received]| {
        let [Received::Finished(_, Err(e))] = received else {
            return false;
        };
        let replaced = "was replaced after dependents had started to read it";
        e.contains(&rmeta.display().to_string()) && e.contains(replaced)
    };
    assert!(is_replaced(&run(2, &other)));
    // Replaced by the same, with the rlib of other metadata or of this.
    for (job, in_rlib, is_expected) in [(3, "other", false), (4, "in metadata", true)] {
        let aba = || {
            let mut rlib = archive::MAGIC.to_vec();
            let size = in_rlib.len() as u64;
            archive::write_member(&mut rlib, "lib.rmeta", &mut in_rlib.as_bytes(), size).unwrap();
            fs::write(rmeta.with_extension("rlib"), rlib).unwrap();
            fs::write(&beside, "metadata").unwrap();
            fs::rename(&beside, &rmeta).unwrap();
        };
        assert_eq!(!is_replaced(&run(job, &aba)), is_expected);
    }
}

#[test]
fn panic_is_an_end() {
    let mailbox = Mailbox::new(1);
    let job = open(&mailbox, 1);
    thread::spawn(move || job.finish_with(|| panic!("expected by this test")))
        .join()
        .unwrap_err();
    assert_eq!(
        receive_all(&mailbox),
        [Received::Finished(1, Err("worker panicked".into()))]
    );
}

#[test]
fn dropped_job_has_ended() {
    let mailbox = Mailbox::new(1);
    drop(open(&mailbox, 1));
    assert_eq!(
        receive_all(&mailbox),
        [Received::Finished(
            1,
            Err("the job was dropped before it ran".into())
        )]
    );
}

#[test]
fn flood_delays_no_other_job() {
    const LINES: usize = 100_000;
    let mailbox = Mailbox::new(100);
    let (flood, lib) = (open(&mailbox, 1), open(&mailbox, 2));
    // Held until the flood fills its lane, so that there is a flood to overtake.
    let flooded = Arc::new(std::sync::Barrier::new(2));
    thread::scope(|scope| {
        let barrier = Arc::clone(&flooded);
        scope.spawn(move || {
            flood.finish_with(|| {
                for line in 0..LINES {
                    if line == 100 {
                        barrier.wait();
                    }
                    flood.push_bounded(Received::Output(1, line));
                }
                Ok(())
            });
        });
        flooded.wait();
        lib.push_bounded(Received::Output(2, 0));
        lib.metadata_written();
        assert_eq!(
            mailbox.pop_urgent(LONG),
            [Received::Output(2, 0), Received::Metadata(2)]
        );
        // Nothing of the flood is lost, and it comes in order.
        let mut next = 0;
        loop {
            for received in mailbox.pop_urgent(LONG) {
                match received {
                    Received::Output(1, line) => {
                        assert_eq!(line, next);
                        next += 1;
                    }
                    Received::Finished(1, Ok(())) => {
                        assert_eq!(next, LINES);
                        return;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    });
}

#[test]
fn dropped_mailbox_unblocks_jobs() {
    let mailbox = Mailbox::new(1);
    let job = open(&mailbox, 1);
    let notices = mailbox.notices();
    job.push_bounded(Received::Output(1, 0));
    thread::scope(|scope| {
        scope.spawn(move || {
            for line in 1..10 {
                job.push_bounded(Received::Output(1, line));
            }
        });
        drop(mailbox);
    });
    notices.push(Received::Notice);
}

#[test]
fn job_parks_from_another_thread() {
    let mailbox = Mailbox::new(1);
    let job = open(&mailbox, 1);
    job.push_bounded(Received::Output(1, 0));
    let parking = job.parking();
    let permit = thread::spawn(move || parking.park_and_wait());
    assert_eq!(permit.join().unwrap(), Permit::Link);
    assert_eq!(
        receive_all(&mailbox),
        [Received::Output(1, 0), Received::Parked(1)]
    );
}

#[test]
fn dropped_permit_aborts() {
    let mailbox = Mailbox::new(1);
    let job = mailbox.channel(|event| match event {
        Event::Parked(permit) => Some(permit),
        _ => None,
    });
    let parking = job.parking();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| parking.park_and_wait());
        let received = mailbox.pop_urgent(LONG);
        assert!(matches!(received[..], [Some(_)]));
        drop(received);
        assert_eq!(waiting.join().unwrap(), Permit::Abort);

        let parked_again = scope.spawn(|| parking.park_and_wait());
        drop(mailbox);
        assert_eq!(parked_again.join().unwrap(), Permit::Abort);
    });
    assert_eq!(parking.park_and_wait(), Permit::Abort);
}

#[test]
fn job_cannot_park_after_its_end() {
    let mailbox = Mailbox::new(1);
    let job = mailbox.channel(|event| match event {
        Event::Parked(permit) => Some(permit),
        _ => None,
    });
    let parking = job.parking();
    job.finish_with(|| Ok(()));
    assert_eq!(parking.park_and_wait(), Permit::Abort);
    drop(job);
    assert_eq!(parking.park_and_wait(), Permit::Abort);
    assert!(matches!(mailbox.try_pop_urgent()[..], [None]));
}

#[test]
fn empty_mailbox_times_out() {
    let mailbox = Mailbox::<Received>::new(1);
    assert!(mailbox.pop_urgent(Duration::ZERO).is_empty());
}
