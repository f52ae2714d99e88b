//! `/flagz` and `/statusz` (KEP-4828, KEP-4827): text for people, and JSON of `config.k8s.io` on request.

use std::fmt::Write as _;
use std::time::SystemTime;

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use crate::serve::http::{Answer, Asked};
use kube_proxy_config::{FeatureGates, KUBERNETES_MINOR};

const NAME: &str = "kube-proxy";
const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, \
    has no formatting compatibility guarantees and is for debugging purposes only.";
/// The paths that `/statusz` names.
const PATHS: [&str; 6] = ["/configz", "/flagz", "/healthz", "/metrics", "/proxyMode", "/statusz"];

/// What the two pages tell.
#[derive(Clone, Debug)]
pub struct Zpages {
    /// When the process started.
    pub started: SystemTime,
    /// Every flag with its value.
    pub flags: Vec<(String, String)>,
    /// Which pages are on.
    pub gates: FeatureGates,
}

impl Zpages {
    /// Answers `/flagz` or `/statusz`.
    pub(super) fn answer(&self, asked: &Asked) -> Answer {
        let flagz = asked.path == "/flagz";
        let (gate, kind) =
            if flagz { ("ComponentFlagz", "Flagz") } else { ("ComponentStatusz", "Statusz") };
        if !self.gates.enabled(gate) {
            return Answer::not_found();
        }
        match format(&asked.accept, kind) {
            Format::Text if flagz => Answer::text(self.flagz()),
            Format::Text => Answer::text(self.statusz(SystemTime::now())),
            Format::Json(version) => {
                let mut object = json!({
                    "kind": kind,
                    "apiVersion": format!("config.k8s.io/{version}"),
                    "metadata": { "name": NAME },
                });
                let fields = if flagz {
                    self.flagz_fields()
                } else {
                    self.statusz_fields(SystemTime::now())
                };
                if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
                    object.extend(fields);
                }
                Answer::ok("application/json", object.to_string())
            }
            Format::Neither => {
                let text = "supported are text/plain and application/json of config.k8s.io";
                Answer::error(StatusCode::NOT_ACCEPTABLE, text)
            }
        }
    }

    fn flagz(&self) -> String {
        let mut text = format!("\n{NAME} flagz\n{WARNING}\n\n");
        for (flag, value) in &self.flags {
            // Writing into a string does not fail.
            let _ = writeln!(text, "{flag}={value}");
        }
        text
    }

    fn flagz_fields(&self) -> Value {
        let flags = self.flags.iter().map(|(flag, value)| (flag.clone(), json!(value)));
        json!({ "flags": flags.collect::<Map<_, _>>() })
    }

    fn statusz(&self, now: SystemTime) -> String {
        let up = now.duration_since(self.started).unwrap_or_default().as_secs();
        let started = jiff::Timestamp::try_from(self.started).unwrap_or_default();
        format!(
            "\n{NAME} statusz\n{WARNING}\n\nStarted: {}\nUp: {} hr {:02} min {:02} sec\n\
             Rust version: {}\nBinary version: {}\nEmulation version: 1.{KUBERNETES_MINOR}\nPaths: {}\n",
            started.strftime("%a %b %e %H:%M:%S UTC %Y"),
            up / 3600,
            up / 60 % 60,
            up % 60,
            env!("CARGO_PKG_RUST_VERSION"),
            env!("CARGO_PKG_VERSION"),
            PATHS.join(" "),
        )
    }

    fn statusz_fields(&self, now: SystemTime) -> Value {
        let started = jiff::Timestamp::try_from(self.started).unwrap_or_default();
        json!({
            "startTime": format!("{started:.0}"),
            "uptimeSeconds": now.duration_since(self.started).unwrap_or_default().as_secs(),
            // There is no Go in this program; the field is part of the type.
            "goVersion": "",
            "binaryVersion": env!("CARGO_PKG_VERSION"),
            "emulationVersion": format!("1.{KUBERNETES_MINOR}"),
            "paths": PATHS,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Format {
    Text,
    /// Of this version of the group.
    Json(String),
    Neither,
}

/// The first format of an `Accept` header that there is. JSON has to be asked for by group, version and kind, for it may change.
fn format(accept: &str, kind: &str) -> Format {
    if accept.trim().is_empty() {
        return Format::Text;
    }
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let parameter = |name| parameters.iter().find(|(key, _)| *key == name).map(|(_, v)| *v);
        match media {
            "text/plain" | "text/*" | "*/*" => return Format::Text,
            "application/json"
                if parameter("g") == Some("config.k8s.io") && parameter("as") == Some(kind) =>
            {
                if let Some(version @ ("v1alpha1" | "v1beta1")) = parameter("v") {
                    return Format::Json(version.to_owned());
                }
            }
            _ => {}
        }
    }
    Format::Neither
}

#[cfg(test)]
mod tests;
