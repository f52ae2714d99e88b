//! What a program consists of, in `CycloneDX` 1.5 (JSON).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::workspace;

/// A part: a crate, or a package of the distribution.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Component {
    pub(super) name: String,
    pub(super) version: String,
    /// The package URL, which names where it comes from.
    pub(super) purl: String,
    /// An expression of SPDX.
    pub(super) licence: Option<String>,
    /// SHA-256 of the package, in hexadecimal.
    pub(super) sum: Option<String>,
}

/// The crates that are linked into programs of the selected packages for a target: neither build scripts nor macros nor tests.
///
/// `cargo tree` is asked because only it knows the features of one package; `cargo metadata` unites those of the workspace.
pub(super) fn crates(
    sources: &Path,
    selected: &[&str],
    triple: &str,
) -> anyhow::Result<Vec<Component>> {
    let mut tree = workspace::cargo(&["tree", "--locked"]);
    tree.args(selected);
    tree.args(["--edges", "normal,no-proc-macro", "--target", triple, "--prefix", "none"]);
    tree.args(["--no-dedupe", "--format", "{p}|{l}"]).current_dir(sources);
    let output = tree.output().context("cannot start cargo")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo tree failed: {}", errors.trim());
    let sums = checksums(&fs::read_to_string(sources.join("Cargo.lock")).context("Cargo.lock")?);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: BTreeSet<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    lines.into_iter().map(|line| component(line, &sums)).collect()
}

/// Crates of which a program with line tables names sources, and which the list lacks.
pub(super) fn lacking(components: &[Component], program: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(program);
    let in_name = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    let rest = text.split("/registry/src/").skip(1).filter_map(|path| path.split_once('/'));
    let names = rest.map(|(_, rest)| rest.split(|c| !in_name(c)).next().unwrap_or_default());
    // A directory of the registry is called after name and version; other text of a program may stand behind such words by chance.
    let has_version = |name: &&str| {
        name.split('-').skip(1).any(|part| part.starts_with(|c: char| c.is_ascii_digit()))
    };
    let found: BTreeSet<_> = names.filter(has_version).map(str::to_owned).collect();
    let listed = components.iter().map(|part| format!("{}-{}", part.name, part.version));
    &found - &listed.collect()
}

/// Reads `name v1.2.3 (path)|licence`.
fn component(line: &str, sums: &BTreeMap<(String, String), String>) -> anyhow::Result<Component> {
    let (package, licence) = line.split_once('|').with_context(|| line.to_owned())?;
    let mut words = package.split_whitespace();
    let (name, version) = (words.next(), words.next().and_then(|word| word.strip_prefix('v')));
    let (name, version) = name.zip(version).with_context(|| line.to_owned())?;
    let (name, version) = (name.to_owned(), version.to_owned());
    Ok(Component {
        purl: format!("pkg:cargo/{name}@{version}"),
        licence: Some(licence.replace('/', " OR ")).filter(|text| !text.is_empty()),
        sum: sums.get(&(name.clone(), version.clone())).cloned(),
        name,
        version,
    })
}

/// Name, version and checksum of the packages of a lock file that have one.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let packages = lock.split("[[package]]").skip(1);
    packages
        .filter_map(|package| {
            let field = |key: &str| {
                let line = package.lines().find_map(|line| line.strip_prefix(key))?;
                Some(line.trim_start_matches(" = ").trim_matches('"').to_owned())
            };
            Some(((field("name")?, field("version")?), field("checksum")?))
        })
        .collect()
}

/// The document for these parts.
pub(super) fn document(
    version: &str,
    time: u64,
    components: &[Component],
) -> anyhow::Result<String> {
    let own = format!("pkg:generic/kube-proxy@{version}");
    let sorted: BTreeSet<&Component> = components.iter().collect();
    let parts = sorted.iter().map(|part| {
        let mut value = json!({
            "type": "library", "bom-ref": part.purl, "purl": part.purl,
            "name": part.name, "version": part.version,
        });
        if let Some(licence) = &part.licence {
            value["licenses"] = json!([{ "expression": licence }]);
        }
        if let Some(sum) = &part.sum {
            value["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
        }
        value
    });
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": timestamp(time)?,
            "component": {
                "type": "application", "bom-ref": own, "purl": own,
                "name": "kube-proxy", "version": version,
                "licenses": [{ "expression": "Apache-2.0" }],
            },
        },
        "components": parts.collect::<Vec<Value>>(),
        "dependencies": [{
            "ref": own,
            "dependsOn": sorted.iter().map(|part| part.purl.clone()).collect::<Vec<_>>(),
        }],
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// Seconds since 1970 in the way of RFC 3339.
pub(super) fn timestamp(seconds: u64) -> anyhow::Result<String> {
    let days = i64::try_from(seconds / 86_400)?;
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    Ok(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

/// The day of a calendar, from days since 1970; years begin in March, so that the leap day is the last.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}
