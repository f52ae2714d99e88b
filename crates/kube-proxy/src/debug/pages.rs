//! The pages themselves: from a request to the families and back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::{Method, StatusCode};
use kube_proxy_core::explain::NodeFacts;
use kube_proxy_core::{IpFamily, Tracker};
use serde::Serialize;

use super::destination::{Destination, Origin};
use super::explain::{self, FamilyExplanation};
use super::explanation::Explanation;
use super::services::Services;
use super::site;
use super::view;
use crate::family::client::{FamilyClient, Unanswered};
use crate::family::state::{FamilyServices, ServiceFilter};
use crate::serve::http::{Answer, Asked, Handler, Reply};
use crate::tasks;
use crate::telemetry::logging::recent;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::secrets::left_out;

mod reports;

/// An API server without news sends a bookmark about every minute.
const LONG_SILENCE: Duration = Duration::from_mins(2);

/// What is known of the node in a family, read for each question; it may block.
pub type Facts = dyn Fn(IpFamily) -> Result<NodeFacts, String> + Send + Sync;

/// Read-only JSON about the Services of this node below `/debug/`, and the page at `/explain` that shows it to people.
pub struct DebugPages {
    node: String,
    mode: &'static str,
    families: Arc<Mutex<Vec<FamilyClient>>>,
    facts: Arc<Facts>,
    metrics: Arc<Metrics>,
    /// For how long the API server has been silent; `None` without one.
    silence: Option<Arc<Silence>>,
    /// Recognises the first argument of a command of this program.
    is_command: fn(&str) -> bool,
    /// Held by the one question that runs programs of the node; others wait.
    running_programs: Arc<tokio::sync::Mutex<()>>,
    /// Held by the one question that looks at the node: however many ask, syncs come in between.
    looking_up: Arc<tokio::sync::Mutex<()>>,
}

/// A time without word from the API server.
pub type Silence = dyn Fn() -> Duration + Send + Sync;

impl DebugPages {
    /// Pages about this node. The list of families is empty until they run.
    pub fn new(
        node: String,
        mode: &'static str,
        families: Arc<Mutex<Vec<FamilyClient>>>,
        facts: Arc<Facts>,
        metrics: Arc<Metrics>,
        silence: Option<Arc<Silence>>,
        is_command: fn(&str) -> bool,
    ) -> Self {
        let (running_programs, looking_up) = Default::default();
        Self {
            node,
            mode,
            families,
            facts,
            metrics,
            silence,
            is_command,
            running_programs,
            looking_up,
        }
    }

    fn clients(&self) -> Vec<FamilyClient> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn services(&self, asked: &Asked) -> Reply {
        let filter =
            ServiceFilter { namespace: asked.decoded("namespace"), name: asked.decoded("name") };
        let endpoints = match all_or_none(asked, "endpoints") {
            Ok(endpoints) => endpoints,
            Err(error) => return Answer::error(StatusCode::BAD_REQUEST, error).into(),
        };
        let mut answer = Services {
            node: self.node.clone(),
            mode: self.mode.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            families: Vec::new(),
            service_ports: Vec::new(),
        };
        let counters = self.counters(asked);
        // All are asked before the first is waited for.
        let readings: Vec<_> =
            counters.iter().flat_map(|_| self.clients()).map(|c| c.read_traffic()).collect();
        let questions: Vec<_> = self
            .clients()
            .iter()
            .map(|family| {
                let filter = filter.clone();
                family.look(move |tracker, state| FamilyServices::of(tracker, &filter, state))
            })
            .collect();
        Reply::Later(Box::pin(async move {
            for reading in readings {
                reading.await;
            }
            let mut families = Vec::new();
            for question in questions {
                match question.await {
                    Ok(services) => families.push(services),
                    Err(error) => return unanswered(error),
                }
            }
            // Thousands of Services take a while to write down, and the runtime has other work.
            tasks::blocking("debug page", move || {
                for family in families {
                    answer.families.push(view::family(&family.state));
                    let mut ports = view::service_ports(&family, endpoints);
                    if let Some(metrics) = &counters {
                        for (shown, port) in ports.iter_mut().zip(&family.ports) {
                            let counted = metrics.traffic().of(family.state.family, &port.name);
                            shown.counters = view::counters(counted);
                        }
                    }
                    answer.service_ports.append(&mut ports);
                }
                json(&answer)
            })
            .await
        }))
    }
}

impl DebugPages {
    fn explain(&self, asked: &Asked) -> Reply {
        let (from, to) = match question(asked) {
            Ok(question) => question,
            Err(error) => return Answer::error(StatusCode::BAD_REQUEST, error).into(),
        };
        let mut answer = Explanation {
            node: self.node.clone(),
            mode: self.mode.to_owned(),
            families: Vec::new(),
            paths: Vec::new(),
            similar: Vec::new(),
            warnings: self.silence_warning().into_iter().collect(),
        };
        let wanted = (all_or_none(asked, "onNode"), all_or_none(asked, "connections"));
        let (look_up, connections) = match wanted {
            (Ok(look_up), Ok(connections)) => (look_up, connections),
            (Err(error), _) | (_, Err(error)) => {
                return Answer::error(StatusCode::BAD_REQUEST, error).into();
            }
        };
        let (clients, facts) = (self.clients(), self.facts.clone());
        let looking_up = self.looking_up.clone();
        let counters = self.counters(asked);
        // Userspace connections lead to this process, and IPVS keeps its own.
        let translated = matches!(self.mode, "iptables" | "nftables");
        Reply::Later(Box::pin(async move {
            for family in clients {
                let facts = facts.clone();
                let of = family.family();
                let facts = tasks::blocking("debug page", move || facts(of)).await;
                let facts = match facts {
                    Ok(facts) => facts,
                    Err(error) => return Answer::error(StatusCode::INTERNAL_SERVER_ERROR, error),
                };
                if counters.is_some() {
                    family.read_traffic().await;
                }
                let (to, counters) = (to.clone(), counters.clone());
                let look = move |tracker: &Tracker, state| {
                    let counted = |name: &_| counters.as_ref().map(|m| m.traffic().of(of, name));
                    explain::of_family(tracker, state, &facts, counted, from, &to)
                };
                let mut explained = match family.look(look).await {
                    Ok(explained) => explained,
                    Err(error) => return unanswered(error),
                };
                if !explained.sessions.is_empty() {
                    let (paths, keys): (Vec<_>, Vec<_>) =
                        std::mem::take(&mut explained.sessions).into_iter().unzip();
                    match family.sessions(keys).await {
                        Ok(found) => {
                            let found = paths.into_iter().zip(found);
                            explain::add_sessions(&mut explained.paths, found);
                        }
                        Err(error) => return unanswered(error),
                    }
                }
                if look_up {
                    let _alone = looking_up.lock().await;
                    explain::look_up(&family, &mut explained).await;
                }
                add(&mut answer, explained);
            }
            tasks::blocking("debug page", move || {
                if connections {
                    explain::add_connections(&mut answer.paths, translated);
                }
                json(&answer)
            })
            .await
        }))
    }

    /// Where the counters are, if they are asked for and anything is counted.
    fn counters(&self, asked: &Asked) -> Option<Arc<Metrics>> {
        let wanted = asked.decoded("counters").is_some_and(|counters| counters == "true");
        Some(&self.metrics).filter(|metrics| wanted && metrics.traffic().is_on()).cloned()
    }

    fn silence_warning(&self) -> Option<String> {
        let silent = self.silence.as_ref()?();
        (silent > LONG_SILENCE).then(|| {
            format!(
                "the API server has been silent for {} s: what is said here may be out of date",
                silent.as_secs()
            )
        })
    }
}

/// Whether a part of the answer is wanted, as it is by default; or what is wrong with the parameter.
fn all_or_none(asked: &Asked, name: &str) -> Result<bool, String> {
    match asked.decoded(name).as_deref() {
        None | Some("all") => Ok(true),
        Some("none") => Ok(false),
        Some(other) => Err(format!("{name} must be all or none, not {other:?}")),
    }
}

/// What is asked, or what is wrong with it.
fn question(asked: &Asked) -> Result<(Option<Origin>, Destination), String> {
    let from = asked.decoded("from").filter(|from| !from.is_empty());
    let from = from.map(|from| from.parse()).transpose()?;
    let to = asked.decoded("to").ok_or("to is missing: a destination such as shop/web:80")?;
    Ok((from, to.parse()?))
}

/// Adds what a family says.
fn add(answer: &mut Explanation, family: FamilyExplanation) {
    let state = view::family(&family.state);
    let of = &state.family;
    if state.synced.is_none() {
        answer.warnings.push(format!("{of}: nothing has been written to the node yet"));
    }
    if let Some(failure) = &state.failure {
        answer
            .warnings
            .push(format!("{of}: the last sync failed, so the node may have old rules: {failure}"));
    }
    answer.families.push(state);
    answer.paths.extend(family.paths);
    for similar in family.similar {
        if !answer.similar.contains(&similar) {
            answer.similar.push(similar);
        }
    }
}

/// Says in JSON what is known.
fn json(answer: &impl Serialize) -> Answer {
    match serde_json::to_vec(answer) {
        Ok(body) => Answer::ok("application/json", body),
        Err(error) => Answer::error(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// The last lines of the log, without what looks like a secret.
fn log() -> Reply {
    Answer::text(left_out(&recent())).into()
}

fn unanswered(error: Unanswered) -> Answer {
    Answer::error(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

impl Handler for DebugPages {
    fn answer(&self, asked: &Asked) -> Reply {
        let page: fn(&Self, &Asked) -> Reply = match &*asked.path {
            "/debug/services" => Self::services,
            "/debug/explain" => Self::explain,
            "/debug/check" => Self::check,
            "/debug/findings" => Self::findings,
            "/debug/changes" => Self::changes,
            "/debug/log" => |_: &Self, _: &Asked| log(),
            _ => |_: &Self, asked: &Asked| {
                site::page(&asked.path).unwrap_or_else(Answer::not_found).into()
            },
        };
        if asked.method == Method::GET || asked.method == Method::HEAD {
            page(self, asked)
        } else {
            Answer::not_allowed("GET, HEAD").into()
        }
    }
}
