//! Signed plugins as operators meet them, judged by the program.

use std::path::{Path, PathBuf};

use midplane_tests::binary::{Finished, run_in};
use midplane_tests::plugins;
use midplane_tests::signing::Key;

/// A folder with a config that trusts the key, and the plugin `identity`.
fn folder(trusted: &Key) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("plugins")).expect("a folder");
    std::fs::copy(plugins::wasm("identity"), wasm(folder.path())).expect("the plugin");
    // As minisign writes it.
    let key = format!("untrusted comment: minisign public key\n{}\n", trusted.public());
    std::fs::write(folder.path().join("minisign.pub"), key).expect("a file");
    let config = "[plugins]\npublic_keys = [\"${file:minisign.pub}\"]\n\
                  [routes.a]\nfrom = 'in'\nto = 'out'\nthrough = 'identity'\n";
    std::fs::write(folder.path().join("midplane.toml"), config).expect("a file");
    folder
}

fn wasm(folder: &Path) -> PathBuf {
    folder.join("plugins/identity.wasm")
}

fn sign(folder: &Path, key: &Key) {
    let signature = key.sign(&std::fs::read(wasm(folder)).expect("the plugin"));
    std::fs::write(folder.join("plugins/identity.wasm.minisig"), signature).expect("a file");
}

fn check(folder: &Path) -> Finished {
    run_in(folder, &["check"], b"")
}

fn refused(folder: &Path) -> String {
    let finished = check(folder);
    assert_eq!(finished.code, Some(3), "{}", finished.stderr);
    finished.stderr
}

#[test]
fn only_plugins_that_a_trusted_key_signed_are_loaded() {
    let (trusted, other) = (Key::new(1), Key::new(2));
    let folder = folder(&trusted);
    let folder = folder.path();

    insta::assert_snapshot!(refused(folder), @r"
    midplane.toml:6:11: error: plugin `identity` is not signed, and `public_keys` asks for a signature
      6 | through = 'identity'
        |           ^^^^^^^^^^
      hint: sign it: `minisign -Sm identity.wasm`, and put `identity.wasm.minisig` beside it

    1 error
    ");
    sign(folder, &other);
    insta::assert_snapshot!(refused(folder), @r"
    midplane.toml:6:11: error: plugin `identity` is signed with key `0202020202020202`, expected one of `public_keys`: `0101010101010101`
      6 | through = 'identity'
        |           ^^^^^^^^^^
      hint: sign it with a key that is trusted, or add the other one to `public_keys` of `[plugins]`

    1 error
    ");
    sign(folder, &trusted);
    let taken = check(folder).success();
    assert!(taken.contains("plugin   identity"), "{taken}");
    let mut bytes = std::fs::read(wasm(folder)).expect("the plugin");
    *bytes.last_mut().expect("bytes") ^= 1;
    std::fs::write(wasm(folder), bytes).expect("writable");
    insta::assert_snapshot!(refused(folder), @r"
    midplane.toml:6:11: error: plugin `identity` is not what was signed with key `0101010101010101`
      6 | through = 'identity'
        |           ^^^^^^^^^^
      hint: sign it again: `minisign -Sm identity.wasm`, and put both files in place

    1 error
    ");
}
