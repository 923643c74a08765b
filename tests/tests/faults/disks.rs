//! Disks that are full: a small file system of the process's own, filled by a file that is taken away again.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use midplane_tests::own::Own;
use midplane_tests::payments::{Payments, Setup};
use midplane_tests::wait::{DEADLINE, wait_until};
use midplane_tests::{Host, http, on_each_broker};

use crate::case::{Case, both};

/// Mounts a small file system on a folder, in a namespace of its own, and becomes what follows.
const fn on_small_disk(folder: &str) -> [&str; 7] {
    let mount = "mount -t tmpfs -o size=32m midplane-tests \"$0\" && exec \"$@\"";
    ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, folder]
}

/// What takes all the room that a process's small disk has left.
struct Ballast(PathBuf);

impl Ballast {
    fn fill(process: &Host, folder: &Path) -> Self {
        // As the process sees it.
        let seen = Path::new("/proc").join(process.id().to_string()).join("root");
        let path = seen.join(folder.strip_prefix("/").expect("an absolute path")).join("ballast");
        let mut file = File::create(&path).expect("a file on the small disk");
        for size in [1 << 20, 4 << 10, 1] {
            let block = vec![0; size];
            loop {
                match file.write(&block) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("the small disk can't be filled: {error}"),
                }
            }
        }
        Self(path)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        // It goes with its disk, if that is gone already.
        let _ = fs::remove_file(&self.0);
    }
}

mod a_disk_that_is_full_under_the_broker {
    use super::*;

    #[test]
    fn on_embedded_broker() {
        let own = Own::embedded_by(&const { on_small_disk("broker") });
        let broker = own.broker();
        let mut case = Case::start(&broker, both());
        case.payments.interrupted();
        case.pile_up();
        let ballast = Ballast::fill(own.host(), &own.folder().path().join("broker"));
        case.proxy.heal();
        let refused = || own.host().log().iter().any(|line| line.contains("No space left on device"));
        wait_until("the broker has no room", DEADLINE, refused);
        // Of the group without transactions alone: where the other stands can't be asked while one of them waits for its end.
        let first = case.payments.groups().next().expect("one of each guarantee");
        assert!(broker.lag(first, &case.payments.input) > 0, "the disk was full outside of the work");
        drop(ballast);
        case.finish();
    }
}

on_each_broker!(
    fn a_disk_that_is_full_under_the_host(broker: &Broker) {
        let tables = "\n[host]\ndata_directory = 'data'\n";
        let mut payments = Payments::with(broker, &Setup { tables, ..both() });
        payments.send_up_to(1000);
        let folder = payments.folder();
        let data = folder.path().join("data");
        fs::create_dir(&data).expect("a folder");
        let host = folder.spawn_by(&on_small_disk("data"));
        host.wait_ready();
        let generation = || host.get("/api/v1/generation").json()["generation"].clone();
        let before = generation();

        let ballast = Ballast::fill(&host, &data);
        folder.write(&payments.config().replace("guarantee", "commit_interval = \"120ms\"\n            guarantee"));
        let answer = http::post(&host.admin(), "/api/v1/reload", "").expect("the admin surface answers");
        assert_ne!(answer.code, 200, "{}", answer.body);
        assert!(answer.body.contains("No space left"), "{}", answer.body);
        assert_eq!(generation(), before);
        // What runs goes on.
        payments.send_up_to(2000);
        payments.wait_settled();
        drop(ballast);
        let answer = http::post(&host.admin(), "/api/v1/reload", "").expect("the admin surface answers");
        assert_eq!(answer.code, 200, "{}", answer.body);
        assert_ne!(generation(), before);
        payments.send_up_to(3000);
        payments.wait_settled();
        assert_eq!(host.stop(), Some(0));
        payments.assert();
    }
);
