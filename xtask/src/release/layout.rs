//! An image as files: the OCI image layout, version 1.0.0, as one archive.
//!
//! `skopeo copy oci-archive:FILE docker://…` and `podman load --input FILE` take it as it is.

use std::collections::BTreeMap;
use std::io::Read as _;

use anyhow::{Context as _, ensure};
use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::archive::{Archive, Entry, files, gzip};
use super::sbom::timestamp;
use super::sums::sha256;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What an image consists of.
pub(super) struct Image<'a> {
    pub(super) version: &'a str,
    pub(super) architecture: &'a str,
    /// Seconds since 1970.
    pub(super) time: u64,
    /// Lowest first: what each is, and its archive.
    pub(super) layers: Vec<(&'a str, Vec<u8>)>,
}

/// The layout of an image with this one manifest.
pub(super) fn archive(image: &Image<'_>) -> anyhow::Result<Vec<u8>> {
    let mut blobs = BTreeMap::new();
    let mut put = |kind: &str, bytes: Vec<u8>| -> Value {
        let descriptor = json!({
            "mediaType": kind,
            "digest": format!("sha256:{}", sha256(&bytes)),
            "size": bytes.len(),
        });
        blobs.insert(sha256(&bytes), bytes);
        descriptor
    };
    let created = timestamp(image.time)?;
    let (mut layers, mut contents, mut history) = (Vec::new(), Vec::new(), Vec::new());
    for (what, layer) in &image.layers {
        contents.push(format!("sha256:{}", sha256(layer)));
        layers.push(put(LAYER, gzip(layer)?));
        history.push(json!({ "created": created, "created_by": what }));
    }
    let config = json!({
        "created": created,
        "architecture": image.architecture,
        "os": "linux",
        "config": {
            "Entrypoint": ["/usr/local/bin/kube-proxy"],
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Labels": {
                "org.opencontainers.image.licenses": "Apache-2.0",
                "org.opencontainers.image.title": "kube-proxy",
                "org.opencontainers.image.version": image.version,
            },
        },
        "rootfs": { "type": "layers", "diff_ids": contents },
        "history": history,
    });
    let config = put(CONFIG, config.to_string().into_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
    });
    let mut manifest = put(MANIFEST, manifest.to_string().into_bytes());
    manifest["platform"] = json!({ "architecture": image.architecture, "os": "linux" });
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": image.version });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest] });
    let mut archive = Archive::new(image.time);
    let mut add = |name: &str, bytes: Vec<u8>| archive.add(name, &Entry::File(bytes, false));
    add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())?;
    add("index.json", index.to_string().into_bytes())?;
    for (digest, bytes) in blobs {
        add(&format!("blobs/sha256/{digest}"), bytes)?;
    }
    Ok(archive.finish())
}

/// Follows every reference of a layout, and compares digests, sizes and kinds; the layers, uncompressed.
///
/// # Errors
/// What does not fit.
pub(super) fn check(archive: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    let files: BTreeMap<String, &[u8]> = files(archive)?.into_iter().collect();
    let read = |name: &str| files.get(name).with_context(|| format!("there is no {name}"));
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).context("JSON");
    let layout = json(read("oci-layout")?)?;
    ensure!(layout["imageLayoutVersion"] == "1.0.0", "{layout}");
    let index = json(read("index.json")?)?;
    ensure!(index["schemaVersion"] == 2 && index["mediaType"] == INDEX, "no index: {index}");
    let mut used = 2;
    let mut blob = |descriptor: &Value, kind: &str| -> anyhow::Result<&[u8]> {
        ensure!(descriptor["mediaType"] == kind, "{descriptor} is not of the kind {kind}");
        let digest = descriptor["digest"].as_str().and_then(|text| text.strip_prefix("sha256:"));
        let digest = digest.with_context(|| format!("{descriptor} has no digest"))?;
        let bytes = *read(&format!("blobs/sha256/{digest}"))?;
        ensure!(sha256(bytes) == digest, "the blob {digest} has another digest");
        ensure!(descriptor["size"] == bytes.len(), "the blob {digest} has another size");
        used += 1;
        Ok(bytes)
    };
    let [manifest] = index["manifests"].as_array().map_or(&[][..], Vec::as_slice) else {
        anyhow::bail!("not one manifest in {index}")
    };
    let platform = manifest["platform"].clone();
    let manifest = json(blob(manifest, MANIFEST)?)?;
    let config = json(blob(&manifest["config"], CONFIG)?)?;
    ensure!(config["architecture"] == platform["architecture"], "{config} is not for {platform}");
    let mut layers = Vec::new();
    for layer in manifest["layers"].as_array().context("layers")? {
        let mut content = Vec::new();
        GzDecoder::new(blob(layer, LAYER)?).read_to_end(&mut content).context("a layer")?;
        layers.push(content);
    }
    let contents: Vec<Value> =
        layers.iter().map(|layer| format!("sha256:{}", sha256(layer)).into()).collect();
    ensure!(config["rootfs"]["diff_ids"] == Value::from(contents), "diff_ids of {config}");
    ensure!(used == files.len(), "{} files are named, {} are there", used, files.len());
    Ok(layers)
}
