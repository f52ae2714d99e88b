//! Who wants to know about each request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One request that was answered, or was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered<'a> {
    /// Where it went, `host:port`.
    pub host: &'a str,
    /// The HTTP method.
    pub method: &'a str,
    /// The status code; `None` if there was no answer.
    pub code: Option<u16>,
    /// How long it took until the head of the answer was there.
    pub took: Duration,
}

type Observe = dyn Fn(&Answered<'_>) + Send + Sync;

/// Is told of every request. The default does nothing.
#[derive(Clone, Default)]
pub struct Observer(Option<Arc<Observe>>);

impl Observer {
    /// Calls `observe`, which must not block, for each request.
    pub fn new(observe: impl Fn(&Answered<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(observe)))
    }

    pub(super) fn tell(&self, answered: &Answered<'_>) {
        if let Some(observe) = &self.0 {
            observe(answered);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Observer(set)" } else { "Observer(none)" })
    }
}
