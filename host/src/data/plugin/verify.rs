//! Whether a component is a plugin, told from its types alone, before any of its code is compiled or run.
//!
//! Names and versions come first, then functions, then types, so that the first difference that is found is the one to mend.
//! Pure.

use std::fmt::Write as _;

use wit_parser::{Function, InterfaceId, Resolve, Type, TypeDefKind, WorldId, WorldItem};

use super::load::{PluginKind, Reason};
use super::wasi;

/// The interfaces as the SDK ships them.
const WIT: &str = include_str!("../../../../plugin-sdk/wit/plugin.wit");
/// The package that they are in.
const PACKAGE: &str = "midplane:plugin";
/// What a plugin may import of it.
const IMPORTS: &[&str] = &["types", "log", "results"];

/// Finds the interface that a component serves, and checks every import and export that counts. Exports that the host doesn't
/// know are ignored. Where there are both interfaces, the columnar one serves: it is the cheaper.
pub(super) fn verify(resolve: &Resolve, world: WorldId) -> Result<PluginKind, Reason> {
    let found = Found { resolve, world };
    let expected = Expected::new();
    let columnar = found.export("batch-processor");
    let typed = found.export("processor");
    let (kind, name, interface) = match (columnar, typed) {
        (Some(interface), _) => (PluginKind::Columnar, "batch-processor", interface),
        (None, Some(interface)) => (PluginKind::Typed, "processor", interface),
        (None, None) => {
            return Err(Reason::NoInterface { exports: found.exports(), expected: expected.id("processor") });
        }
    };
    found.check_version(interface, &expected.id(name), "exports")?;
    found.check_imports(&expected)?;
    let path = expected.id(name);
    let types = Types { expected: &expected.resolve, found: resolve };
    for (name, function) in &expected.resolve.interfaces[expected.interface(name)].functions {
        let Some(served) = resolve.interfaces[interface].functions.get(name) else {
            return Err(Reason::MissingFunction { interface: path, function: name.clone() });
        };
        types.function(&format!("{path}, function `{name}`"), function, served)?;
    }
    Ok(kind)
}

/// The names of all that a component imports.
pub(super) fn imports(resolve: &Resolve, world: WorldId) -> Vec<String> {
    resolve.worlds[world].imports.keys().map(|key| resolve.name_world_key(key)).collect()
}

/// What this host speaks.
struct Expected {
    resolve: Resolve,
}

impl Expected {
    fn new() -> Self {
        let mut resolve = Resolve::default();
        resolve.push_source("plugin.wit", WIT).expect("a test parses the interfaces that are built in");
        Self { resolve }
    }

    fn interface(&self, name: &str) -> InterfaceId {
        let mut interfaces = self.resolve.interfaces.iter();
        let found = interfaces.find(|(_, interface)| interface.name.as_deref() == Some(name));
        found.map(|(id, _)| id).expect("only names of the built-in interfaces are asked for")
    }

    /// As it stands in components: with package and version.
    fn id(&self, name: &str) -> String {
        self.resolve.id_of(self.interface(name)).unwrap_or_default()
    }
}

/// What a component has.
struct Found<'a> {
    resolve: &'a Resolve,
    world: WorldId,
}

impl Found<'_> {
    /// The exported interface of our package that has this name, in whatever version.
    fn export(&self, name: &str) -> Option<InterfaceId> {
        let mut exports = self.resolve.worlds[self.world].exports.values();
        exports.find_map(|item| match item {
            WorldItem::Interface { id, .. } if self.split(*id) == (PACKAGE.to_owned(), name.to_owned()) => Some(*id),
            _ => None,
        })
    }

    /// Package and name of an interface.
    fn split(&self, id: InterfaceId) -> (String, String) {
        let interface = &self.resolve.interfaces[id];
        let package = interface.package.map(|package| &self.resolve.packages[package].name);
        let package = package.map_or(String::new(), |name| format!("{}:{}", name.namespace, name.name));
        (package, interface.name.clone().unwrap_or_default())
    }

    fn exports(&self) -> Vec<String> {
        self.resolve.worlds[self.world].exports.keys().map(|key| self.resolve.name_world_key(key)).collect()
    }

    /// Versions below 1 are compatible where their second number is the same.
    fn version(&self, id: InterfaceId) -> Option<(u64, u64)> {
        let package = self.resolve.interfaces[id].package?;
        let version = self.resolve.packages[package].name.version.as_ref()?;
        Some((version.major, version.minor))
    }

    fn check_version(&self, id: InterfaceId, expected: &str, does: &'static str) -> Result<(), Reason> {
        if self.version(id) == Some((0, 1)) {
            return Ok(());
        }
        let found = self.resolve.id_of(id).unwrap_or_default();
        Err(Reason::Version { does, found, expected: expected.to_owned() })
    }

    fn check_imports(&self, expected: &Expected) -> Result<(), Reason> {
        for (key, item) in &self.resolve.worlds[self.world].imports {
            let name = self.resolve.name_world_key(key);
            match item {
                WorldItem::Interface { id, .. } => self.check_import(name, *id, expected)?,
                WorldItem::Type { .. } => {}
                WorldItem::Function(_) => return Err(Reason::UnknownImport { import: name }),
            }
        }
        Ok(())
    }

    fn check_import(&self, import: String, id: InterfaceId, expected: &Expected) -> Result<(), Reason> {
        let (package, name) = self.split(id);
        if package == PACKAGE && IMPORTS.contains(&name.as_str()) {
            self.check_version(id, &expected.id(&name), "imports")?;
            return self.check_functions(id, expected.interface(&name), expected);
        }
        if wasi::LINKED.contains(&package.as_str()) && self.version(id) == Some((0, 2)) {
            return Ok(());
        }
        Err(Reason::UnknownImport { import })
    }

    /// Every function that is imported must be one of ours.
    fn check_functions(&self, id: InterfaceId, ours: InterfaceId, expected: &Expected) -> Result<(), Reason> {
        let path = expected.resolve.id_of(ours).unwrap_or_default();
        let types = Types { expected: &expected.resolve, found: self.resolve };
        for (name, function) in &self.resolve.interfaces[id].functions {
            let Some(served) = expected.resolve.interfaces[ours].functions.get(name) else {
                return Err(Reason::UnknownImport { import: format!("{path}#{name}") });
            };
            types.function(&format!("{path}, function `{name}`"), served, function)?;
        }
        Ok(())
    }
}

/// Two sets of types to be compared.
struct Types<'a> {
    expected: &'a Resolve,
    found: &'a Resolve,
}

impl Types<'_> {
    fn function(&self, path: &str, expected: &Function, found: &Function) -> Result<(), Reason> {
        if expected.params.len() != found.params.len() {
            let count = |function: &Function| format!("{} parameters", function.params.len());
            return Err(mismatch(path, count(expected), count(found)));
        }
        for (expected, found) in expected.params.iter().zip(&found.params) {
            self.same(&format!("{path}, parameter `{}`", expected.name), expected.ty, found.ty)?;
        }
        self.optional(&format!("{path}, result"), expected.result, found.result)
    }

    fn optional(&self, path: &str, expected: Option<Type>, found: Option<Type>) -> Result<(), Reason> {
        match (expected, found) {
            (None, None) => Ok(()),
            (Some(expected), Some(found)) => self.same(path, expected, found),
            _ => {
                let show = |resolve, ty: Option<Type>| ty.map_or("nothing".to_owned(), |ty| show(resolve, ty));
                Err(mismatch(path, show(self.expected, expected), show(self.found, found)))
            }
        }
    }

    fn same(&self, path: &str, expected: Type, found: Type) -> Result<(), Reason> {
        let differ = || Err(mismatch(path, show(self.expected, expected), show(self.found, found)));
        let (expected_kind, found_kind) = match (resolved(self.expected, expected), resolved(self.found, found)) {
            (Type::Id(expected), Type::Id(found)) => {
                (&self.expected.types[expected].kind, &self.found.types[found].kind)
            }
            (expected, found) if expected == found => return Ok(()),
            _ => return differ(),
        };
        match (expected_kind, found_kind) {
            (TypeDefKind::List(expected), TypeDefKind::List(found)) => {
                self.same(&format!("{path}, element"), *expected, *found)
            }
            (TypeDefKind::Option(expected), TypeDefKind::Option(found)) => self.same(path, *expected, *found),
            (TypeDefKind::Result(expected), TypeDefKind::Result(found)) => {
                self.optional(&format!("{path}, ok"), expected.ok, found.ok)?;
                self.optional(&format!("{path}, error"), expected.err, found.err)
            }
            (TypeDefKind::Tuple(expected), TypeDefKind::Tuple(found)) if expected.types.len() == found.types.len() => {
                let mut pairs = expected.types.iter().zip(&found.types);
                pairs.try_for_each(|(expected, found)| self.same(path, *expected, *found))
            }
            (TypeDefKind::Record(expected), TypeDefKind::Record(found)) => {
                let fields = |record: &wit_parser::Record| {
                    record.fields.iter().map(|field| (field.name.clone(), Some(field.ty))).collect()
                };
                self.members(path, "field", fields(expected), fields(found))
            }
            (TypeDefKind::Variant(expected), TypeDefKind::Variant(found)) => {
                let cases = |variant: &wit_parser::Variant| {
                    variant.cases.iter().map(|case| (case.name.clone(), case.ty)).collect()
                };
                self.members(path, "case", cases(expected), cases(found))
            }
            (TypeDefKind::Enum(expected), TypeDefKind::Enum(found)) => {
                let cases =
                    |cases: &wit_parser::Enum| cases.cases.iter().map(|case| (case.name.clone(), None)).collect();
                self.members(path, "case", cases(expected), cases(found))
            }
            _ => differ(),
        }
    }

    /// Fields and cases: the same names in the same order, of the same types.
    fn members(
        &self,
        path: &str,
        what: &str,
        expected: Vec<(String, Option<Type>)>,
        found: Vec<(String, Option<Type>)>,
    ) -> Result<(), Reason> {
        let names = |members: &[(String, Option<Type>)]| {
            let names = members.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
            format!("the {what}s {}", names.join(", "))
        };
        let same = expected.iter().map(|(name, _)| name).eq(found.iter().map(|(name, _)| name));
        if !same {
            return Err(mismatch(path, names(&expected), names(&found)));
        }
        for ((name, expected), (_, found)) in expected.into_iter().zip(found) {
            self.optional(&format!("{path}, {what} `{name}`"), expected, found)?;
        }
        Ok(())
    }
}

fn mismatch(path: &str, expected: String, found: String) -> Reason {
    Reason::Type { path: path.to_owned(), expected, found }
}

/// What a name stands for.
fn resolved(resolve: &Resolve, mut ty: Type) -> Type {
    while let Type::Id(id) = ty {
        match resolve.types[id].kind {
            TypeDefKind::Type(aliased) => ty = aliased,
            _ => break,
        }
    }
    ty
}

/// A type as people write it.
fn show(resolve: &Resolve, ty: Type) -> String {
    let Type::Id(id) = resolved(resolve, ty) else { return format!("{ty:?}").to_lowercase() };
    let definition = &resolve.types[id];
    if let Some(name) = &definition.name {
        return format!("{} {name}", definition.kind.as_str());
    }
    let optional = |ty: Option<Type>| ty.map_or("_".to_owned(), |ty| show(resolve, ty));
    match &definition.kind {
        TypeDefKind::List(element) => format!("list<{}>", show(resolve, *element)),
        TypeDefKind::Option(some) => format!("option<{}>", show(resolve, *some)),
        TypeDefKind::Result(result) => format!("result<{}, {}>", optional(result.ok), optional(result.err)),
        TypeDefKind::Tuple(tuple) => {
            let mut text = String::from("tuple<");
            for (index, ty) in tuple.types.iter().enumerate() {
                let _ = write!(text, "{}{}", if index > 0 { ", " } else { "" }, show(resolve, *ty));
            }
            text + ">"
        }
        kind => kind.as_str().to_owned(),
    }
}
