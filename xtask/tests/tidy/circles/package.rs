//! The files of a crate, and which of them needs which.

use std::collections::{BTreeMap, BTreeSet};

use super::module::{Module, Path};

/// Modules that share a parent, by path, each with those of them that it needs; and the two files that show it.
pub(super) type Edges = BTreeMap<String, BTreeMap<String, (String, String)>>;

/// A crate: modules by path, `["a", "b"]` for `crate::a::b`.
#[derive(Debug, Default)]
pub(super) struct Package {
    modules: BTreeMap<Path, (String, Module)>,
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Module(Path),
    /// An item, by the module that defines it.
    ItemOf(Path),
    /// Something of another crate, or a name that is none of a module.
    Other,
}

impl Package {
    /// Reads the files that belong to a root, `src/lib.rs` or `src/main.rs`: those that it and its modules declare.
    pub(super) fn read(root: &str, text: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut package = Self::default();
        let directory = root.rsplit_once('/').map_or("", |(directory, _)| directory);
        package.add(Path::new(), root.to_owned(), directory, text);
        package
    }

    fn add(
        &mut self,
        path: Path,
        file: String,
        directory: &str,
        text: &dyn Fn(&str) -> Option<String>,
    ) {
        let Some(module) = text(&file).map(|text| Module::read(&text)) else { return };
        for child in &module.children {
            let below = format!("{directory}/{child}");
            let own = [format!("{below}.rs"), format!("{below}/mod.rs")];
            let file = own.into_iter().find(|file| text(file).is_some());
            let file =
                file.unwrap_or_else(|| panic!("{directory} has no file of the module {child}"));
            self.add([&path[..], std::slice::from_ref(child)].concat(), file, &below, text);
        }
        self.modules.insert(path, (file, module));
    }

    /// Which modules need which of their siblings, counting all that is below each.
    pub(super) fn edges(&self) -> Edges {
        let mut edges = Edges::new();
        for (path, (file, module)) in &self.modules {
            for other in self.needs(path, module) {
                let shared = path.iter().zip(&other).take_while(|(own, its)| own == its).count();
                // A module and what is below it are one: they may need each other.
                if shared < path.len() && shared < other.len() {
                    let [own, its] = [path, &other].map(|path| self.file(&path[..=shared]));
                    let shown = (file.clone(), self.file(&other));
                    edges.entry(own).or_default().entry(its).or_insert(shown);
                }
            }
        }
        edges
    }

    fn file(&self, module: &[String]) -> String {
        self.modules.get(module).map_or_else(String::new, |(file, _)| file.clone())
    }

    /// The modules that define what a module names.
    fn needs(&self, path: &[String], module: &Module) -> BTreeSet<Path> {
        let imports = module.imports.iter();
        let used = imports.filter(|(name, _)| !module.passed_on.contains(*name));
        let imported = used.map(|(_, import)| import).chain(&module.nameless);
        let named = imported.chain(&module.paths).map(|named| self.resolve(path, named, 0));
        named
            .filter_map(
                |target| if let Target::ItemOf(found) = target { Some(found) } else { None },
            )
            .collect()
    }

    /// Follows a path that is written in a module, through what other modules only pass on.
    fn resolve(&self, from: &[String], path: &[String], depth: usize) -> Target {
        let mut module = from.to_vec();
        let mut rest = path;
        let mut first = true;
        // Longer chains of imports than this are a circle of imports.
        if depth > 20 {
            return Target::Other;
        }
        while let Some((name, below)) = rest.split_first() {
            let Some((_, current)) = self.modules.get(&module) else { return Target::Other };
            match name.as_str() {
                "crate" if first => module.clear(),
                "self" if first => {}
                "super" => {
                    module.pop();
                }
                name if current.children.contains(name) => module.push(name.to_owned()),
                name if current.imports.contains_key(name) => {
                    let import = &current.imports[name];
                    if import[0] == name && !current.children.contains(name) {
                        return Target::Other;
                    }
                    match self.resolve(&module, import, depth + 1) {
                        Target::Module(found) => module = found,
                        item => return item,
                    }
                }
                name if current.defined.contains(name) => return Target::ItemOf(module),
                name => {
                    let globs = current.globs.iter();
                    let mut found = globs.filter_map(|glob| {
                        let path = [&glob[..], &[name.to_owned()]].concat();
                        let found = self.resolve(&module, &path, depth + 1);
                        (found != Target::Other).then_some(found)
                    });
                    return found.next().unwrap_or(Target::Other);
                }
            }
            rest = below;
            first = false;
        }
        Target::Module(module)
    }
}
