//! What an operator should know of flags, variables and file.

use figment::value::Value;

use super::layered::Layers;
use crate::document;
use crate::flags::DeprecatedFlags;
use crate::layers;

impl Layers {
    /// Everything, one sentence each.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(file) = &self.file {
            let ignored = document::strict_errors(&file.root);
            if !ignored.is_empty() {
                warnings.push(format!(
                    "{}: using lenient decoding, since strict decoding failed: {}",
                    file.path.display(),
                    ignored.join(", ")
                ));
            }
            self.warn_of_overruled_flags(&mut warnings);
        }
        let inert = [self.cli.deprecated.without_effect(), self.env.deprecated.without_effect()];
        let inert: Vec<_> = inert.into_iter().flatten().collect();
        if !inert.is_empty() {
            warnings.push(format!("these flags have no effect here: {}", inert.join(", ")));
        }
        for (old, new) in
            [&self.cli.deprecated, &self.env.deprecated].map(DeprecatedFlags::replaced).concat()
        {
            warnings.push(format!("{old} is deprecated: use {new}"));
        }
        self.warn_of_windows(&mut warnings);
        let manifests = self.cli.general.manifests.as_ref().or(self.env.general.manifests.as_ref());
        let manifests = manifests.is_some_and(|path| !path.as_os_str().is_empty());
        let api = &self.cli.kubernetes;
        if manifests && (api.kubeconfig.is_some() || api.master.is_some()) {
            let text = "--manifests is given, so --kubeconfig and --master have no effect";
            warnings.push(text.to_owned());
        }
        warnings
    }

    fn warn_of_windows(&self, warnings: &mut Vec<String>) {
        let Some(file) = &self.file else { return };
        let fields = document::known_fields(&file.root);
        let is_set = |field: &str| match fields.get(field) {
            Some(Value::Bool(_, set)) => *set,
            Some(Value::Dict(_, section)) => section.values().any(|value| match value {
                Value::Bool(_, set) => *set,
                Value::String(_, text) => !text.is_empty(),
                _ => false,
            }),
            _ => false,
        };
        let set: Vec<_> =
            ["winkernel", "windowsRunAsService"].into_iter().filter(|f| is_set(f)).collect();
        if !set.is_empty() {
            let set = set.join(", ");
            warnings.push(format!("these fields are for Windows and have no effect here: {set}"));
        }
    }

    fn warn_of_overruled_flags(&self, warnings: &mut Vec<String>) {
        let settings = layers::settings(&self.cli, "");
        let overruled = settings.iter().filter(|setting| !setting.beside_file);
        let mut names: Vec<_> = overruled.map(|setting| format!("--{}", setting.flag)).collect();
        let old = &self.cli.deprecated;
        names.extend(old.healthz_port.map(|_| "--healthz-port".to_owned()));
        names.extend(old.metrics_port.map(|_| "--metrics-port".to_owned()));
        if !names.is_empty() {
            let names = names.join(", ");
            warnings.push(format!("--config is given, so these flags have no effect: {names}"));
        }
    }
}
