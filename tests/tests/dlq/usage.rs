//! What is wrong with a command ends with the exit code that says so, and changes nothing.

use midplane_tests::binary::{Finished, run_in};
use midplane_tests::{Folder, on_each_broker};

use crate::case::{Case, ROUTES, stop};

fn check(finished: &Finished, code: i32, said: &str) {
    assert_eq!(finished.code, Some(code), "{}{}", finished.stdout, finished.stderr);
    assert!(finished.stderr.contains(said), "expected `{said}` in: {}", finished.stderr);
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    let folder = Folder::new("[broker]\nbootstrap_servers = \"127.0.0.1:1\"\n");
    let dlq = |args: &[&str]| run_in(folder.path(), &[&["dlq"], args].concat(), b"");
    for (args, said) in [
        (&["show", "letters/1"][..], "expected TOPIC/PARTITION/OFFSET"),
        (&["list", "--kind", "bad"], "[possible values: transient, permanent, trap"),
        (&["list", "--since", "yesterday"], "expected a time such as `2026-11-27T21:00:00Z`, or how long ago"),
        (&["list", "--where", "event.jsn > 1"], "`--where` is refused: "),
        (&["list"], "the config has no routes, and so no dead-letter topics: `--topic` names one"),
        (&["redrive"], "say which letters: by LETTER, --route,"),
        (&["redrive", "--execute"], "say which letters: by LETTER, --route,"),
        (&["redrive", "--all", "--execute", "--dry-run"], "cannot be used with"),
        (&["redrive", "--all", "--rate", "fast"], "expected a rate such as `100/s`"),
        (&["redrive", "--all", "--attempts", "0"], "0 is not in 1.."),
        (&["redrive", "--all", "--plugin", "mask"], "expected NAME=VERSION or NAME=FILE"),
    ] {
        check(&dlq(args), 2, said);
    }
    check(&dlq(&["list", "--topic", "letters", "--timeout", "200ms"]), 4, "no answer from the broker `127.0.0.1:1`");
    folder.write("[routes.a]\nfrom = \"in\"\ntoo = \"out\"\n");
    check(&dlq(&["redrive", "--all"]), 3, "unknown key `too`");
}

on_each_broker!(
    fn what_is_not_there_or_may_not_be_made_is_said(broker: &Broker) {
        let case = Case::new(broker, ROUTES);
        let host = case.folder.start();
        case.fail(["permanent a"]);
        stop(host);
        let letters = case.name("letters");
        check(&case.dlq(&["list", "--topic", "nowhere"]), 1, "no topic `nowhere`");
        let [there, missing] = [0, 99].map(|offset| format!("{letters}/0/{offset}"));
        for command in [&["show"][..], &["redrive"], &["redrive", "--execute"]] {
            check(&case.dlq(&[command, &[&there, &missing]].concat()), 1, &format!("no letter at `{missing}`"));
        }
        assert_eq!(case.counts(), (1, 0), "nothing is redriven then");
        let other = case.dlq(&["redrive", "--route", "tpyo", "--execute"]);
        assert_eq!(other.code, Some(0), "{}", other.stderr);
        assert!(other.stderr.contains("the config has no route `tpyo`"), "{}", other.stderr);
        let nothing = case.dlq(&["show", "--kind", "loop"]);
        assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(0), ""));
        assert!(nothing.stderr.contains("no letters are meant"), "{}", nothing.stderr);
        let none = case.dlq(&["redrive", "--kind", "loop", "--execute"]).success();
        assert!(none.ends_with("There is nothing to be redriven.\n"), "{none}");
        let redrive = |args: &[&str]| case.dlq(&[&["redrive", "--route", "subject"], args].concat());
        check(&redrive(&["--plugin", "other=1f2e3d4c"]), 2, "no route of these letters goes through it");
        check(&redrive(&["--plugin", "subject=absent.wasm"]), 3, "plugin `subject` can't be read");
        let broken = case.folder.path().join("broken.wasm");
        std::fs::write(&broken, b"\0asm").expect("a file");
        check(&redrive(&["--plugin", "subject=broken.wasm"]), 3, "plugin `subject` is not WebAssembly");
        std::fs::write(&broken, std::fs::read(midplane_tests::plugins::wasm("faulty-ports-none")).expect("a plugin"))
            .expect("a file");
        check(&redrive(&["--plugin", "subject=broken.wasm"]), 3, "is no port of plugin `subject`");

        // Where topics may not be made, the command that makes it is said, and works.
        let config = format!("{}{}", broker.toml(), case.named(ROUTES));
        case.folder.write(&config);
        let refused = redrive(&["--execute"]);
        let make = format!("topic create {letters}.redriven --set cleanup.policy=compact");
        check(&refused, 3, &format!("Make it with\n  midplane {make}\n"));
        assert_eq!(case.counts(), (1, 0));
        let mut words: Vec<&str> = make.split(' ').collect();
        if broker.is_embedded() {
            // It compacts nothing.
            words.truncate(3);
        }
        run_in(case.folder.path(), &words, b"").success();
        redrive(&["--execute"]).success();
        assert_eq!(case.counts(), (1, 1), "it failed again");
    }
);
