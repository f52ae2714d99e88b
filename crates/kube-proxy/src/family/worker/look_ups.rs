//! What the node holds for single frontends, for those who ask.

use super::Worker;
use crate::family::on_node::OnNode;

impl Worker {
    /// Looks at the node for those who wait for it.
    pub(super) async fn look_up(&mut self) {
        for (queries, answer) in std::mem::take(&mut self.look_ups) {
            let mut found = Vec::with_capacity(queries.len());
            for query in &queries {
                let objects = self.setup.proxy.look_up(query).await;
                found.push(OnNode::new(query, objects, &self.repairs));
            }
            // Who has gone away meanwhile gets no answer, which is no error.
            let _ = answer.send(found);
        }
    }
}
