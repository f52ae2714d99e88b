//! Pages about the node and its history.

use super::{Answer, Asked, DebugPages, Reply, ServiceFilter, json, unanswered};
use crate::debug::change::Change;
use crate::debug::changes::Changes;
use crate::debug::check::Check;
use crate::debug::findings::{Report, facts};
use crate::debug::view;
use crate::family::client::FamilyClient;
use crate::tasks;

impl DebugPages {
    pub(super) fn check(&self, _asked: &Asked) -> Reply {
        let check = self.compared();
        Reply::Later(Box::pin(async move {
            match check.await {
                Ok(check) => json(&check),
                Err(unanswered) => unanswered,
            }
        }))
    }

    /// What `kube-proxy check` prints.
    pub(super) fn findings(&self, _asked: &Asked) -> Reply {
        let (check, is_command) = (self.compared(), self.is_command);
        let running_programs = self.running_programs.clone();
        Reply::Later(Box::pin(async move {
            let check = match check.await {
                Ok(check) => check,
                Err(unanswered) => return unanswered,
            };
            let report = move || Report::new(facts::gather(Ok(check), is_command));
            // However many ask: programs are run.
            let _alone = running_programs.lock().await;
            json(&tasks::blocking("debug page", report).await)
        }))
    }

    fn compared(&self) -> impl Future<Output = Result<Check, Answer>> + Send + use<> {
        let mut answer = Check {
            node: self.node.clone(),
            mode: self.mode.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api_server_silent_seconds: self.silence.as_ref().map(|silent| silent().as_secs_f64()),
            families: Vec::new(),
        };
        // All are asked before the first is waited for.
        let questions: Vec<_> = self.clients().iter().map(FamilyClient::compare).collect();
        async move {
            for question in questions {
                answer.families.push(question.await.map_err(unanswered)?);
            }
            Ok(answer)
        }
    }

    pub(super) fn changes(&self, asked: &Asked) -> Reply {
        let filter =
            ServiceFilter { namespace: asked.decoded("namespace"), name: asked.decoded("name") };
        let mut answer = Changes {
            node: self.node.clone(),
            mode: self.mode.to_owned(),
            families: Vec::new(),
            changes: Vec::new(),
        };
        let clients = self.clients();
        let questions: Vec<_> =
            clients.iter().map(|family| family.look(|_, state| state)).collect();
        Reply::Later(Box::pin(async move {
            for question in questions {
                let state = match question.await {
                    Ok(state) => state,
                    Err(error) => return unanswered(error),
                };
                answer.families.push(view::family(&state));
                let meant = state
                    .changes
                    .last
                    .iter()
                    .filter(|change| filter.matches_service(&change.object.service));
                answer.changes.extend(meant.map(|change| Change::new(state.family, change)));
            }
            answer.changes.sort_by(|a, b| b.received.cmp(&a.received));
            json(&answer)
        }))
    }
}
