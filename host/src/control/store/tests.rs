use super::*;

use proptest::prelude::*;

fn open(folder: &tempfile::TempDir) -> Store {
    Store::open(&folder.path().join("generations")).expect("a store")
}

/// A generation of one config text and one plugin's bytes, and what it consists of.
fn generation(number: u64, config: &str, plugin: &[u8]) -> (Manifest, Vec<(digest::Bytes, Vec<u8>)>) {
    let (config, plugin) = (config.as_bytes().to_vec(), plugin.to_vec());
    let (config_sha256, sha256) = (digest::of(&config), digest::of(&plugin));
    let hash = digest::of(&[config_sha256, sha256].concat());
    let signature = b"signed".to_vec();
    let stored = StoredPlugin { sha256, bytes: plugin.len() as u64, signature: Some(digest::of(&signature)) };
    let manifest = Manifest {
        config_sha256,
        config_path: "midplane.toml".into(),
        files: vec![StoredFile { path: "midplane.toml".into(), sha256: config_sha256 }],
        plugins: [("mask".to_owned(), stored)].into(),
        published_at: "2026-01-31T06:00:00Z".to_owned(),
        why: "the start".to_owned(),
        ..Manifest::new(number, hash)
    };
    (manifest, [config, plugin, signature].map(|bytes| (digest::of(&bytes), bytes)).into())
}

fn put(store: &Store, number: u64, config: &str, plugin: &[u8]) -> Result<Manifest, Error> {
    let (manifest, blobs) = generation(number, config, plugin);
    store.put(&manifest, blobs.iter().map(|(sha256, bytes)| (*sha256, bytes.as_slice())))?;
    Ok(manifest)
}

fn numbers_in(store: &Store) -> Vec<u64> {
    store.list().iter().map(|manifest| manifest.number).collect()
}

fn blob_count(store: &Store) -> usize {
    std::fs::read_dir(&store.blobs).expect("a folder").count()
}

#[test]
fn what_was_put_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let manifest = put(&open(&folder), 1, "a = 1", b"v1").expect("put");
    let store = open(&folder);
    assert_eq!(*store.get(1).expect("there"), manifest);
    assert_eq!(numbers_in(&store), [1]);
    assert_eq!(store.blob(&manifest.plugins["mask"].sha256).expect("there"), b"v1");
    assert_eq!(store.text(&manifest.files[0].sha256).expect("there"), "a = 1");
    let error = store.get(2).expect_err("never put");
    assert_eq!(error.to_string(), "generation 2 is not in the store (there are: 1)");
}

#[test]
fn a_number_is_put_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(&folder);
    put(&store, 1, "a = 1", b"v1").expect("put");
    put(&store, 1, "a = 1", b"v1").expect("the same");
    let error = put(&store, 1, "a = 1", b"v2").expect_err("another");
    assert!(matches!(error, Error::Taken(1)), "{error}");
    assert_eq!(numbers_in(&store), [1]);
}

#[test]
fn contents_that_are_there_need_not_be_given() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(&folder);
    put(&store, 1, "a = 1", b"v1").expect("put");
    let (again, _) = generation(2, "a = 1", b"v1");
    store.put(&again, []).expect("all of it is there");
    let (other, _) = generation(3, "a = 1", b"v2");
    let error = store.put(&other, []).expect_err("the plugin is missing");
    assert!(error.to_string().contains(&digest::hex(&digest::of(b"v2"))), "{error}");
    assert_eq!(numbers_in(&open(&folder)), [1, 2]);
}

#[test]
fn damaged_contents_are_named_and_can_be_put_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(&folder);
    let manifest = put(&store, 1, "a = 1", b"v1").expect("put");
    let sha256 = manifest.plugins["mask"].sha256;
    let path = store.blob_path(&sha256);
    std::fs::write(&path, b"v?").expect("writable");
    let error = store.blob(&sha256).expect_err("damaged").to_string();
    assert!(error.contains(&digest::hex(&sha256)) && error.contains("it has 2 bytes"), "{error}");
    std::fs::remove_file(&path).expect("it is there");
    assert!(store.blob(&sha256).expect_err("missing").to_string().contains("it is missing"));
    put(&store, 1, "a = 1", b"v1").expect("the same");
    assert_eq!(store.blob(&sha256).expect("there"), b"v1");
}

#[test]
fn a_damaged_manifest_hides_no_other() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(&folder);
    for number in 1..=4 {
        put(&store, number, "a = 1", &[u8::try_from(number).expect("small")]).expect("put");
    }
    for (number, text) in [(2, "{"), (4, "{\"v\":9}")] {
        std::fs::write(store.manifest_path(number), text).expect("writable");
    }
    let store = open(&folder);
    assert_eq!((numbers_in(&store), store.last_number()), (vec![1, 3], 4));
    assert!(matches!(store.get(2), Err(Error::DamagedManifest { .. })));
    // It goes with those of its age.
    store.prune(1, &BTreeSet::new(), &BTreeSet::new()).expect("pruned");
    assert!(!store.manifest_path(2).exists() && store.manifest_path(4).exists());
    put(&store, 4, "a = 1", b"v4").expect("put in its place");
    assert_eq!(numbers_in(&open(&folder)), [3, 4]);
}

/// Every state of the disk in which a put may be cut off: some contents, some drafts, no manifest; then, at once, all of it.
#[test]
fn a_put_that_is_cut_off_leaves_what_was_there() {
    let (second, blobs) = generation(2, "a = 2", b"v2");
    for written in 0..=blobs.len() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = open(&folder);
        put(&store, 1, "a = 1", b"v1").expect("put");
        for (sha256, bytes) in &blobs[..written] {
            store.put_blob(sha256, bytes).expect("writable");
        }
        for folder in [&store.folder, &store.blobs] {
            std::fs::write(folder.join(".draft-cut-off"), "ha").expect("writable");
        }
        let store = open(&folder);
        assert_eq!(numbers_in(&store), [1]);
        assert!(!store.folder.join(".draft-cut-off").exists() && !store.blobs.join(".draft-cut-off").exists());
        store.prune(10, &BTreeSet::new(), &BTreeSet::new()).expect("pruned");
        assert_eq!(blob_count(&store), 3, "only what the first consists of");
        store.put(&second, blobs.iter().map(|(sha256, bytes)| (*sha256, bytes.as_slice()))).expect("put");
        assert_eq!(numbers_in(&open(&folder)), [1, 2]);
    }
}

#[test]
fn a_disk_that_refuses_leaves_what_was_there() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(&folder);
    put(&store, 1, "a = 1", b"v1").expect("put");
    // A folder where the contents, then the manifest, should be put.
    let blob = store.blob_path(&digest::of(b"v2"));
    std::fs::create_dir(&blob).expect("a folder");
    assert!(matches!(put(&store, 2, "a = 1", b"v2"), Err(Error::Io { .. })));
    std::fs::remove_dir(&blob).expect("it is there");
    std::fs::create_dir(store.manifest_path(2)).expect("a folder");
    assert!(matches!(put(&store, 2, "a = 1", b"v2"), Err(Error::Io { .. })));
    assert_eq!(numbers_in(&store), [1]);
}

#[test]
fn versions_are_found_by_their_beginning() {
    let manifests: Vec<_> = [b"v1".as_slice(), b"v2", b"v1"]
        .iter()
        .zip(1..)
        .map(|(bytes, number)| Arc::new(generation(number, "", bytes).0))
        .collect();
    let [one, two] = [b"v1", b"v2"].map(|bytes| digest::of(bytes));
    assert_eq!(versions(&manifests, "mask"), [(one, vec![1, 3]), (two, vec![2])]);
    assert_eq!(versions(&manifests, "other"), []);
    let find = |prefix: &str| find_version(&manifests, "mask", prefix).map_err(|error| error.to_string());
    let digits = digest::hex(&two);
    assert_eq!(find(&digits), Ok(two));
    assert_eq!(find(&digits[..8].to_uppercase()), Ok(two));
    let known = format!("{}, {}", digest::short(&one), digest::short(&two));
    assert_eq!(
        find("00000000"),
        Err(format!("plugin `mask` has no version `00000000` in the store (it has: {known})"))
    );
    assert!(find("xyz1").expect_err("no digits").contains("is no version"));
    assert!(find(&digits[..3]).expect_err("too few").contains("at least 4"));
    // Two that begin alike.
    let mut twin = Manifest::clone(&manifests[1]);
    let plugin = twin.plugins.get_mut("mask").expect("there");
    plugin.sha256[31] ^= 1;
    let manifests = [manifests, vec![Arc::new(twin)]].concat();
    let error = find_version(&manifests, "mask", &digits[..8]).expect_err("two");
    assert!(matches!(error, VersionError::Ambiguous { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever was put and pruned: what is kept is kept whole, over a restart, and nothing else is.
    #[test]
    fn what_is_kept_is_whole(
        puts in proptest::collection::vec((0..4_u8, 0..4_u8), 1..12),
        keep in 1..6_usize,
        held in 0..14_u64,
        pinned in 0..5_u8,
    ) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = open(&folder);
        for ((config, plugin), number) in puts.iter().zip(1..) {
            put(&store, number, &format!("a = {config}"), &[*plugin]).expect("put");
        }
        let (held, version) = (BTreeSet::from([held]), digest::of(&[pinned]));
        store.prune(keep, &held, &[version].into()).expect("pruned");

        let last_of_version = puts.iter().rposition(|(_, plugin)| *plugin == pinned).map(|index| index as u64 + 1);
        let count = puts.len() as u64;
        let expected: Vec<u64> = (1..=count)
            .filter(|number| count - number < keep as u64 || held.contains(number) || last_of_version == Some(*number))
            .collect();
        let store = open(&folder);
        prop_assert_eq!(numbers_in(&store), expected);
        let mut consists_of = BTreeSet::new();
        for manifest in store.list() {
            for sha256 in manifest.contents() {
                store.blob(&sha256).expect("kept");
                consists_of.insert(sha256);
            }
        }
        prop_assert_eq!(blob_count(&store), consists_of.len());
    }
}
