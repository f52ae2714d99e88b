//! What normalising an object depends on besides the object.

use std::sync::Arc;

use kube_proxy_core::Trust;

use crate::names::Names;

/// What all objects of a source are normalised with. Cloning gives another handle to the same strings.
#[derive(Clone, Debug, Default)]
pub struct Context {
    names: Names,
    trust: Trust,
}

impl Context {
    /// With other rules about addresses than the default ones.
    pub fn new(trust: Trust) -> Self {
        Self { names: Names::default(), trust }
    }

    /// The shared copy of a string.
    pub(crate) fn name(&self, text: &str) -> Arc<str> {
        self.names.get(text)
    }

    /// Which addresses objects may name.
    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }
}
