//! Builds every plugin of the repository for WebAssembly: the examples in `plugins/`, and those that tests use in
//! `tests/plugins/`. Folders are discovered; a `[package.metadata.midplane]` says what is special about one:
//!
//! ```toml
//! [package.metadata.midplane]
//! target = "wasm32-wasip2"
//! ```
//!
//! A fixture's cargo features are variants of it: `NAME-FEATURE.wasm` is built with that one feature.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::process::Interrupt;
use crate::{Failure, cargo, workspace};

const TARGET: &str = "wasm32-unknown-unknown";

/// Which plugins to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those that users read.
    Examples,
    /// Those that tests use, too.
    All,
}

/// One plugin's crate.
#[derive(Debug, PartialEq, Eq)]
struct Package {
    name: String,
    target: String,
    variants: Vec<String>,
}

/// Builds them.
pub(crate) fn build(interrupt: &Interrupt, which: Which) -> Result<(), Failure> {
    let root = workspace::root();
    let mut packages = discover(&root.join("plugins"))?;
    packages.iter_mut().for_each(|example| example.variants.clear());
    if which == Which::All {
        packages.extend(discover(&root.join("tests/plugins"))?);
    }
    let folder = workspace::target()?.join("plugins");
    fs::create_dir_all(&folder).map_err(|error| format!("`{}` can't be made: {error}", folder.display()))?;
    let mut targets: Vec<&str> = packages.iter().map(|package| package.target.as_str()).collect();
    targets.sort_unstable();
    targets.dedup();
    for target in targets {
        add_target(target, interrupt)?;
        let packages: Vec<&Package> = packages.iter().filter(|package| package.target == target).collect();
        compile(target, &packages, None, interrupt)?;
        for package in &packages {
            keep(package, None, &folder)?;
        }
        // Afterwards, since a variant overwrites what the plain one left in cargo's folder.
        for package in &packages {
            for variant in &package.variants {
                compile(target, &[package], Some(variant), interrupt)?;
                keep(package, Some(variant), &folder)?;
            }
        }
    }
    eprintln!("The plugins are in {}.", workspace::shown(&folder));
    Ok(())
}

fn compile(target: &str, packages: &[&Package], variant: Option<&str>, interrupt: &Interrupt) -> Result<(), Failure> {
    let mut build = cargo::command()?;
    build.args(["build", "--profile", "plugin", "--target", target]);
    build.args(packages.iter().flat_map(|package| ["--package", &package.name]));
    build.args(variant.iter().flat_map(|variant| ["--features", variant]));
    cargo::run("building the plugins", &mut build, interrupt)
}

/// Copies a built plugin to where hosts and tests find it, under its own name rather than its crate's.
fn keep(package: &Package, variant: Option<&str>, folder: &Path) -> Result<(), Failure> {
    let built = workspace::target()?.join(&package.target).join("plugin").join(package.name.replace('-', "_"));
    let name = match variant {
        Some(variant) => format!("{}-{variant}.wasm", package.name),
        None => format!("{}.wasm", package.name),
    };
    workspace::copy(&built.with_extension("wasm"), &folder.join(name))
}

/// The crates right below a folder, by name.
fn discover(folder: &Path) -> Result<Vec<Package>, Failure> {
    let refuse = |error| format!("`{}` can't be listed: {error}", folder.display());
    let mut packages = Vec::new();
    for entry in fs::read_dir(folder).map_err(refuse)? {
        let manifest = entry.map_err(refuse)?.path().join("Cargo.toml");
        if manifest.is_file() {
            packages.extend(package(&workspace::read(&manifest)?));
        }
    }
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(packages)
}

/// What a manifest says of a plugin. It reads lines, since the manifests are ours and a parser would be built first.
fn package(manifest: &str) -> Option<Package> {
    let (mut name, mut target, mut variants, mut table) = (None, TARGET.to_owned(), Vec::new(), "");
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            table = line;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let (key, value) = (key.trim(), value.trim().trim_matches('"'));
        match (table, key) {
            ("[package]", "name") => name = Some(value.to_owned()),
            ("[package.metadata.midplane]", "target") => value.clone_into(&mut target),
            ("[features]", feature) if feature != "default" => variants.push(feature.to_owned()),
            _ => {}
        }
    }
    Some(Package { name: name?, target, variants })
}

/// Makes sure that Rust can build for a target.
fn add_target(target: &str, interrupt: &Interrupt) -> Result<(), Failure> {
    if has_target(target) {
        return Ok(());
    }
    eprintln!("Adding Rust's target {target}…");
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", target]).current_dir(workspace::root());
    let added = cargo::run("adding the target", &mut rustup, interrupt);
    interrupt.check()?;
    if added.is_ok() && has_target(target) {
        return Ok(());
    }
    Err(format!(
        "this Rust can't build for {target}, and rustup didn't add it.\nWith rustup: `rustup target add {target}`. With a \
         Rust from a distribution: install its package for that target (`rust-std-{target}`, `libstd-rust-dev-wasm32`, or \
         the like). Then run this again."
    ))
}

/// Whether the standard library for a target is there.
fn has_target(target: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", target])
        .current_dir(workspace::root())
        .output();
    let Ok(output) = asked else { return false };
    output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(manifest: &str, expected: Option<(&str, &str, &[&str])>) {
        let expected = expected.map(|(name, target, variants)| Package {
            name: name.to_owned(),
            target: target.to_owned(),
            variants: variants.iter().map(|&variant| variant.to_owned()).collect(),
        });
        assert_eq!(package(manifest), expected, "{manifest}");
    }

    #[test]
    fn a_manifest_says_what_is_built() {
        check("[package]\nname = \"mask\"\nversion = \"1\"\n", Some(("mask", TARGET, &[])));
        check(
            "[package]\nname = \"sleeper\"\n\n[package.metadata.midplane]\ntarget = \"wasm32-wasip2\"\n",
            Some(("sleeper", "wasm32-wasip2", &[])),
        );
        check(
            "[package]\nname = \"faulty\"\n[features]\ndefault = []\ntrap = []\n\n[dependencies]\nserde = \"1\"\n",
            Some(("faulty", TARGET, &["trap"])),
        );
        check("[workspace]\nmembers = []\n", None);
    }
}
