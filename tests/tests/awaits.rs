//! Whatever is waited for can be stopped, or ends by itself: nothing is awaited past the places that see to it.
//!
//! In model, engine and gates an async function that takes a `Host` is looked at here, so that others may await it. All else
//! that such a function awaits (a source, the GPU, whoever approves) has to be an argument of `until_stopped`, with a
//! name of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use gptoss_tests::workspace_root;
use syn::visit::{
    Visit, visit_expr_await, visit_expr_call, visit_impl_item_fn, visit_item_fn, visit_item_impl, visit_trait_item_fn,
};
use syn::{
    Expr, ExprAwait, ExprCall, FnArg, ImplItemFn, ItemFn, ItemImpl, Signature, TraitItemFn, Type, TypeParamBound,
};

/// Ends with STOP whatever it is given; its second argument is the name.
const UNTIL_STOPPED: &str = "until_stopped";
/// Awaits what it is given, which is looked at where it is given.
const IN_STAGE: &str = "in_stage";
const NAMES: &str = "AwaitPoint";

/// What may be awaited as it is, by file and name, and why that ends.
const ENDS_BY_ITSELF: &[(&str, &str, &str)] = &[
    ("host.rs", "work", "the future that a stage is given"),
    ("waiting.rs", "select", "the place itself"),
    ("upload.rs", "read", "one of the reads under way, which are awaited together, as weights"),
    ("answering/answers.rs", "distribute", "draws of answers, each of which ends with the host of its own answer"),
    ("session.rs", "explained", "the news of a loss are waited for a tenth of a second"),
    ("session.rs", "read", "takes what is wanted from a header that is there"),
];

/// Where promises of the browser become futures, and why these end.
const PROMISES: &[(&str, &str)] = &[
    ("source/src/platform/web/promise.rs", "the place itself: none is waited for longer than it makes sense"),
    ("kernels/src/platform/web.rs", "an adapter, for as long as wgpu's own is waited for"),
    ("source/src/platform/web/transfer.rs", "beside the alarm for a host that is silent"),
];

/// What the node awaits, by file and name, and why that ends with STOP or by itself. A node awaits nothing else.
const NODE: &[(&str, &str, &str)] = &[
    ("signal.rs", "poll_fn", "the signal itself, which is what STOP requests"),
    ("node.rs", "give_turn", "goes on as soon as others on this thread had their turn"),
    ("hosts.rs", "select", "approval, beside STOP"),
    (
        "node.rs",
        "select",
        "a load, a download or gates beside STOP, which drops them; the next look at the download cache",
    ),
    ("node.rs", "or_stop", "beside STOP"),
    ("node.rs", ".gate", "looked at here"),
    ("node.rs", ".requested", "nothing is under way: the next request"),
    ("node.rs", "join", "all that the node does, for ever"),
    ("node.rs", "arrived", "no action of the download cache is under way: the next one"),
    ("node.rs", ".work_off", "looked at here"),
    ("node.rs", ".load", "looked at here"),
    ("node.rs", ".download", "looked at here"),
    ("node.rs", ".answer", "looked at here"),
    ("node.rs", ".prefetch", "the engine's, which ends with its host; and the one that is looked at here"),
    ("node.rs", ".step", "the engine's, which ends with the hosts of its answers"),
    ("node.rs", ".settled", "ends by itself within a moment: a promise of every platform"),
    ("node.rs", ".cache", "beside everything else: nobody waits for it"),
];

#[derive(Default)]
struct Findings {
    awaits: usize,
    names: BTreeSet<String>,
    unstoppable: Vec<String>,
}

struct Walk<'a> {
    file: String,
    trusted: &'a BTreeSet<String>,
    /// The type whose functions these are.
    of: String,
    has_host: bool,
    findings: Findings,
}

impl Walk<'_> {
    /// Async functions that take a host, of one file.
    fn stoppable(file: &syn::File) -> BTreeSet<String> {
        struct Names(String, BTreeSet<String>);
        impl<'ast> Visit<'ast> for Names {
            fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
                self.0 = type_name(&item.self_ty);
                visit_item_impl(self, item);
                self.0.clear();
            }
            fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
                if takes_host(&item.sig) && item.sig.asyncness.is_some() {
                    let name = &item.sig.ident;
                    let is_method = item.sig.receiver().is_some();
                    self.1.insert(if is_method { format!(".{name}") } else { format!("{}::{name}", self.0) });
                }
            }
            fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
                // Where it has a body; others are looked at where they are implemented.
                if takes_host(&item.sig) && item.sig.asyncness.is_some() && item.default.is_some() {
                    self.1.insert(format!(".{}", item.sig.ident));
                }
            }
            fn visit_item_fn(&mut self, item: &'ast ItemFn) {
                if takes_host(&item.sig) && item.sig.asyncness.is_some() {
                    self.1.insert(item.sig.ident.to_string());
                }
            }
        }
        let mut names = Names(String::new(), BTreeSet::new());
        names.visit_file(file);
        names.1
    }

    /// How a call is told from others: `name`, `Type::name`, `.name` of a method.
    fn callee(&self, expression: &Expr) -> String {
        match expression {
            Expr::Paren(inner) => self.callee(&inner.expr),
            Expr::MethodCall(call) => format!(".{}", call.method),
            Expr::Call(call) => self.callee(&call.func),
            Expr::Path(path) => {
                let mut segments: Vec<_> = path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
                let name = segments.pop().unwrap_or_default();
                match segments.pop() {
                    Some(of) if of == "Self" => format!("{}::{name}", self.of),
                    Some(of) if of.starts_with(char::is_uppercase) => format!("{of}::{name}"),
                    _ => name,
                }
            }
            Expr::Async(_) => "async".to_owned(),
            other => format!("{:?}", std::mem::discriminant(other)),
        }
    }

    fn is_stoppable(&self, callee: &str) -> bool {
        let ends = |(file, name, _): &(&str, &str, &str)| self.file == *file && callee.trim_start_matches('.') == *name;
        [UNTIL_STOPPED, IN_STAGE, "async"].contains(&callee)
            || self.trusted.contains(callee)
            || ENDS_BY_ITSELF.iter().any(ends)
    }

    fn within(&mut self, signature: &Signature, visit: impl FnOnce(&mut Self)) {
        let outside = std::mem::replace(&mut self.has_host, takes_host(signature));
        visit(self);
        self.has_host = outside;
    }
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        self.of = type_name(&item.self_ty);
        visit_item_impl(self, item);
        self.of.clear();
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.within(&item.sig, |walk| visit_item_fn(walk, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.within(&item.sig, |walk| visit_impl_item_fn(walk, item));
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        self.within(&item.sig, |walk| visit_trait_item_fn(walk, item));
    }

    fn visit_expr_await(&mut self, expression: &'ast ExprAwait) {
        if self.has_host {
            self.findings.awaits += 1;
            let callee = self.callee(&expression.base);
            if !self.is_stoppable(&callee) {
                self.findings.unstoppable.push(format!("{}: {callee}", self.file));
            }
        }
        visit_expr_await(self, expression);
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        let callee = self.callee(&call.func);
        if callee == UNTIL_STOPPED {
            let name = call.args.get(1).map(|name| self.callee(name)).unwrap_or_default();
            match name.strip_prefix(&format!("{NAMES}::")) {
                Some(name) => drop(self.findings.names.insert(name.to_owned())),
                None => self.findings.unstoppable.push(format!("{}: {name} is no name", self.file)),
            }
        }
        if let (IN_STAGE, Some(work)) = (&*callee, call.args.get(2)) {
            let work = self.callee(work);
            if !self.is_stoppable(&work) {
                self.findings.unstoppable.push(format!("{}: {work} as a stage", self.file));
            }
        }
        visit_expr_call(self, call);
    }
}

fn type_name(of: &Type) -> String {
    match of {
        Type::Path(path) => path.path.segments.last().map_or_else(String::new, |segment| segment.ident.to_string()),
        _ => String::new(),
    }
}

/// `host: &dyn Host`, or the like.
fn takes_host(signature: &Signature) -> bool {
    let is_host = |bound: &TypeParamBound| match bound {
        TypeParamBound::Trait(bound) => bound.path.segments.last().is_some_and(|segment| segment.ident == "Host"),
        _ => false,
    };
    signature.inputs.iter().any(|input| match input {
        FnArg::Typed(argument) => match &*argument.ty {
            Type::Reference(reference) => match &*reference.elem {
                Type::TraitObject(object) => object.bounds.iter().any(is_host),
                _ => false,
            },
            _ => false,
        },
        FnArg::Receiver(_) => false,
    })
}

fn look_at(sources: &[(String, String)]) -> Findings {
    let parsed: Vec<_> =
        sources.iter().map(|(name, text)| (name, syn::parse_file(text).expect("a file that compiles"))).collect();
    let trusted: BTreeSet<_> = parsed.iter().flat_map(|(_, file)| Walk::stoppable(file)).collect();
    let mut all = Findings::default();
    for (name, file) in &parsed {
        let (file_name, findings) = ((*name).clone(), std::mem::take(&mut all));
        let mut walk = Walk { file: file_name, trusted: &trusted, of: String::new(), has_host: false, findings };
        walk.visit_file(file);
        all = walk.findings;
    }
    all
}

/// Every Rust file below `folder`, by its path from there.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        for entry in std::fs::read_dir(folder.join(&below)).expect("a folder of this checkout") {
            let entry = entry.expect("an entry");
            let path = below.join(entry.file_name());
            if entry.file_type().expect("its type").is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(entry.path()).expect("text");
                found.push((path.to_string_lossy().replace('\\', "/"), text));
            }
        }
    }
    found
}

#[test]
fn everything_that_the_engine_awaits_can_be_stopped() {
    let sources: Vec<_> =
        ["model/src", "engine/src", "gates/src"].iter().flat_map(|it| sources(&workspace_root().join(it))).collect();
    let findings = look_at(&sources);
    assert_eq!(findings.unstoppable, [""; 0], "awaited past `{UNTIL_STOPPED}`");
    assert!(findings.awaits > 40, "{} awaits: this check looks at nothing", findings.awaits);

    // The names are those that `engine/tests/stopping.rs` stops at.
    let (_, waiting) = sources.iter().find(|(name, _)| name == "waiting.rs").expect("the names");
    let list = waiting.split("pub const ALL").nth(1).and_then(|rest| rest.split("];").next()).expect("the list");
    let listed: BTreeSet<_> = list.split("Self::").skip(1).filter_map(|rest| rest.split(',').next()).collect();
    let used: BTreeSet<_> = findings.names.iter().map(String::as_str).collect();
    assert_eq!(used, listed);
}

#[test]
fn everything_that_the_node_awaits_can_be_stopped() {
    #[derive(Default)]
    struct Awaited(BTreeSet<String>);
    impl<'ast> Visit<'ast> for Awaited {
        fn visit_expr_await(&mut self, expression: &'ast ExprAwait) {
            let trusted = BTreeSet::new();
            let findings = Findings::default();
            let walk = Walk { file: String::new(), trusted: &trusted, of: String::new(), has_host: true, findings };
            self.0.insert(walk.callee(&expression.base));
            visit_expr_await(self, expression);
        }
    }
    let mut found = BTreeSet::new();
    for (name, text) in sources(&workspace_root().join("node/src")) {
        let mut awaited = Awaited::default();
        awaited.visit_file(&syn::parse_file(&text).expect("a file that compiles"));
        found.extend(awaited.0.into_iter().map(|callee| (name.clone(), callee)));
    }
    let listed: BTreeSet<_> = NODE.iter().map(|(file, name, _)| ((*file).to_owned(), (*name).to_owned())).collect();
    assert_eq!(found, listed, "each of these says why it ends");
}

/// The check above would pass on anything if it found nothing.
#[test]
fn what_cannot_be_stopped_is_found() {
    let text = "
        async fn checked(host: &dyn Host) { until_stopped(host, AwaitPoint::Batch, gpu.finished()).await; }
        impl Model {
            async fn open(host: &dyn Host) { Gpu::open(&options).await; checked(host).await; Self::open(host).await; }
            async fn fill(&self, host: &dyn Host) {
                self.source.read(0, 1).await?;
                in_stage(host, Stage::Kernels, async { self.gpu.finished().await }).await;
                in_stage(host, Stage::Kernels, gpu.finished()).await;
                until_stopped(host, point, self.fill(host)).await;
            }
            async fn without_host(&self) { gpu.finished().await }
        }";
    let findings = look_at(&[("model.rs".to_owned(), text.to_owned())]);
    let expected = ["Gpu::open", ".read", ".finished", ".finished as a stage", "point is no name"];
    assert_eq!(findings.unstoppable, expected.map(|what| format!("model.rs: {what}")));
}

#[test]
fn every_promise_of_the_browser_is_waited_for_within_limits() {
    let root = workspace_root();
    let mut users = BTreeSet::new();
    for folder in ["source/src/platform/web", "kernels/src", "model/src", "engine/src", "web/worker/src"] {
        for (name, text) in sources(&root.join(folder)) {
            if text.contains("JsFuture::from(") && !name.contains("tests") {
                users.insert(format!("{folder}/{name}"));
            }
        }
    }
    let listed: BTreeSet<_> = PROMISES.iter().map(|(file, _)| (*file).to_owned()).collect();
    assert_eq!(users, listed, "each of these says why what it waits for ends");
}
