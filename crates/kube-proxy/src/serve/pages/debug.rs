//! `/debug/…`: profiles, and the verbosity of the log.

use std::time::Duration;

use hyper::{Method, StatusCode};

use crate::serve::http::{Answer, Asked, Reply};
use crate::telemetry::logging::Verbosity;
use crate::telemetry::profiling;

/// `PUT` of a number sets the verbosity.
pub(super) const VERBOSITY: &str = "/debug/flags/v";
/// How long a CPU profile takes unless `?seconds=` says otherwise.
const CPU_SECONDS: u64 = 30;

const INDEX: &str = "\
/debug/pprof/profile?seconds=30  CPU profile of all threads, pprof protobuf
/debug/pprof/heap                memory by mapping, pprof protobuf; as text with ?debug=1
/debug/pprof/cmdline             the command line, its arguments separated by NUL
/debug/flags/v                   PUT a number to set the verbosity of the log
";

/// Whether a path is one of these pages.
pub(super) fn is_profiling(path: &str) -> bool {
    path.starts_with("/debug/pprof/") || path.starts_with("/debug/flags")
}

/// Answers such a path.
pub(super) fn answer(asked: &Asked, verbosity: &Verbosity) -> Reply {
    let answer = match &*asked.path {
        "/debug/pprof/" | "/debug/flags" | "/debug/flags/" => Answer::text(INDEX),
        "/debug/pprof/profile" => return cpu(asked),
        "/debug/pprof/heap" | "/debug/pprof/allocs" => memory(asked),
        "/debug/pprof/cmdline" => command_line(),
        VERBOSITY if asked.method == Method::PUT => set_verbosity(asked, verbosity),
        VERBOSITY => Answer::not_allowed("PUT"),
        _ => Answer::not_found(),
    };
    answer.into()
}

fn cpu(asked: &Asked) -> Reply {
    let seconds = match asked.parameter("seconds").map(str::parse) {
        None => CPU_SECONDS,
        Some(Ok(seconds)) if (1..=profiling::MAX_DURATION.as_secs()).contains(&seconds) => seconds,
        Some(_) => {
            let most = profiling::MAX_DURATION.as_secs();
            let text = format!("seconds must be a whole number from 1 to {most}");
            return Answer::error(StatusCode::BAD_REQUEST, text).into();
        }
    };
    Reply::Later(Box::pin(async move {
        match profiling::cpu(Duration::from_secs(seconds)).await {
            Ok(profile) => Answer::ok("application/octet-stream", profile),
            Err(error) => Answer::error(StatusCode::INTERNAL_SERVER_ERROR, error),
        }
    }))
}

fn memory(asked: &Asked) -> Answer {
    let text = asked.parameter("debug").is_some_and(|level| level != "0");
    let read = if text {
        profiling::memory_text().map(Answer::text)
    } else {
        profiling::memory().map(|profile| Answer::ok("application/octet-stream", profile))
    };
    read.unwrap_or_else(|error| Answer::error(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

fn command_line() -> Answer {
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    Answer::text(arguments.collect::<Vec<_>>().join("\0"))
}

fn set_verbosity(asked: &Asked, verbosity: &Verbosity) -> Answer {
    let text = std::str::from_utf8(&asked.body).unwrap_or_default().trim();
    let Some(level) = text.parse::<i32>().ok().and_then(|level| u32::try_from(level).ok()) else {
        let text = format!("the body must be a number from 0 to 2147483647, not {text:?}");
        return Answer::error(StatusCode::BAD_REQUEST, text);
    };
    match verbosity.set(level) {
        Ok(()) => {
            tracing::info!("the verbosity is {level} from now on");
            Answer::text(format!("successfully set klog.logging.verbosity to {level}\n"))
        }
        Err(error) => Answer::error(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
