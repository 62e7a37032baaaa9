//! A substitute for handlebars 1.1 with one caller, amq-protocol-codegen 1.4, and one template, that of amq-protocol 1.4.
//!
//! It implements values, helpers with paths and nested calls as arguments, `each` (over a list, with a block parameter), `if`,
//! `unless`, `else` and `~`. Anything else fails the build of amq-protocol. It is always strict: an undefined name is an error. A name
//! refers to the innermost scope that defines it. Values have no paths, so the functions for paths do nothing.

mod template;

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io;
use std::rc::Rc;

use serde::Serialize;
pub use serde_json::Value as JsonValue;

pub use template::Template;
use template::{Argument, Expression, Node};

/// Escapes the text of a `{{value}}` before it is written.
pub type EscapeFn = fn(&str) -> String;

/// The result of a helper that writes text.
pub type HelperResult = Result<(), RenderError>;

/// An [`EscapeFn`] that returns the text unchanged.
pub fn no_escape(text: &str) -> String {
    text.to_owned()
}

/// Converts a value to JSON; null if that fails.
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> JsonValue {
    serde_json::to_value(value).unwrap_or_default()
}

macro_rules! error {
    ($(#[$doc:meta] $name:ident),*) => { $(
        #[$doc]
        #[derive(Debug)]
        pub struct $name(String);

        impl $name {
            /// An error with this message.
            pub fn new(message: &str) -> Self {
                Self(message.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::error::Error for $name {}
    )* };
}
error!(
    /// A template is invalid, or uses what this crate does not implement.
    TemplateError,
    /// Rendering failed.
    RenderError
);

impl From<io::Error> for RenderError {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Receives the rendered text.
pub trait Output {
    /// Appends a text.
    fn write(&mut self, text: &str) -> io::Result<()>;
}

impl Output for String {
    fn write(&mut self, text: &str) -> io::Result<()> {
        self.write_str(text).map_err(io::Error::other)
    }
}

/// The data that a template is rendered with.
#[derive(Debug)]
pub struct Context(JsonValue);

/// A value, by origin.
#[derive(Debug)]
pub enum ScopedJson<'reg: 'rc, 'rc> {
    /// A literal of the template, which this crate does not parse.
    Constant(&'reg JsonValue),
    /// From the data.
    Context(&'rc JsonValue),
    /// From a helper or from a scope of the template.
    Derived(JsonValue),
}

/// An argument of a helper.
#[derive(Debug)]
pub struct Param<'reg: 'rc, 'rc>(ScopedJson<'reg, 'rc>);

impl Param<'_, '_> {
    /// The argument's value.
    pub fn value(&self) -> &JsonValue {
        match &self.0 {
            ScopedJson::Constant(value) | ScopedJson::Context(value) => value,
            ScopedJson::Derived(value) => value,
        }
    }

    /// Always `None`: a value has no path.
    pub fn path(&self) -> Option<&String> {
        None
    }

    /// Always `None`: a value has no path.
    pub fn path_root(&self) -> Option<&str> {
        None
    }
}

/// A call of a helper.
#[derive(Debug)]
pub struct Helper<'reg: 'rc, 'rc> {
    params: Vec<Param<'reg, 'rc>>,
    block: Option<(&'reg Template, Option<&'reg str>)>,
}

impl<'reg, 'rc> Helper<'reg, 'rc> {
    /// The argument at this index, from 0.
    pub fn param(&self, index: usize) -> Option<&Param<'reg, 'rc>> {
        self.params.get(index)
    }

    /// The body of a block helper.
    pub fn template(&self) -> Option<&'reg Template> {
        self.block.map(|(template, _)| template)
    }

    /// The name in `as |name|`.
    pub fn block_param(&self) -> Option<&'reg str> {
        self.block.and_then(|(_, name)| name)
    }
}

/// A helper, which implements one of the two functions.
pub trait HelperDef {
    /// Returns a value.
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        _helper: &Helper<'reg, 'rc>,
        _registry: &'reg Handlebars,
        _context: &'rc Context,
        _render: &mut RenderContext<'reg>,
    ) -> Result<Option<ScopedJson<'reg, 'rc>>, RenderError> {
        Ok(None)
    }

    /// Writes text.
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'reg, 'rc>,
        registry: &'reg Handlebars,
        context: &'rc Context,
        render: &mut RenderContext<'reg>,
        out: &mut dyn Output,
    ) -> HelperResult {
        match self.call_inner(helper, registry, context, render)? {
            Some(value) => Ok(out.write(&text(Param(value).value())?)?),
            None => Err(RenderError::new("helper returned no value")),
        }
    }
}

/// The scopes at a position of the template.
#[derive(Debug, Clone, Default)]
pub struct RenderContext<'reg> {
    /// Outermost first.
    scopes: Vec<Rc<BTreeMap<String, JsonValue>>>,
    /// `@index`, `@first`, `@last`.
    locals: BTreeMap<String, JsonValue>,
    registry: std::marker::PhantomData<&'reg ()>,
}

impl RenderContext<'_> {
    /// A copy, whose changes do not affect this one.
    #[must_use]
    pub fn derive(&self) -> Self {
        self.clone()
    }

    /// Adds an innermost scope with the entries of a map.
    pub fn push_block_context<T: Serialize>(&mut self, names: &T) -> HelperResult {
        match to_json(names) {
            JsonValue::Object(names) => self.scopes.push(Rc::new(names.into_iter().collect())),
            _ => return Err(RenderError::new("block context is not a map")),
        }
        Ok(())
    }

    /// Removes the innermost scope.
    pub fn pop_block_context(&mut self) {
        self.scopes.pop();
    }

    /// Sets a local variable such as `@index`.
    pub fn set_local_var(&mut self, name: String, value: JsonValue) {
        self.locals.insert(name, value);
    }

    /// Does nothing: [`RenderContext::derive`] copies local variables.
    pub fn promote_local_vars(&mut self) {}

    /// Does nothing: [`RenderContext::derive`] copies local variables.
    pub fn demote_local_vars(&mut self) {}

    /// Always empty: values have no paths.
    pub fn get_path(&self) -> &'static str {
        ""
    }

    /// Does nothing: values have no paths.
    pub fn set_path(&mut self, _path: String) {}

    /// Does nothing: values have no paths.
    pub fn push_local_path_root(&mut self, _path: String) {}

    /// Does nothing: values have no paths.
    pub fn pop_local_path_root(&mut self) {}

    fn find<'r: 'rc, 'rc>(
        &self,
        path: &str,
        context: &'rc Context,
    ) -> Result<ScopedJson<'r, 'rc>, RenderError> {
        let missing = || RenderError(format!("undefined: {path}"));
        let mut names = path.split('.');
        let first = names.next().unwrap_or(path);
        let scopes = self.scopes.iter().rev().map(Rc::as_ref);
        let known = scopes
            .chain([&self.locals])
            .find_map(|scope| scope.get(first));
        if let Some(value) = known {
            let value = names
                .try_fold(value, |value, name| value.get(name))
                .ok_or_else(missing)?;
            return Ok(ScopedJson::Derived(value.clone()));
        }
        let value = path
            .split('.')
            .try_fold(&context.0, |value, name| value.get(name))
            .ok_or_else(missing)?;
        Ok(ScopedJson::Context(value))
    }
}

/// A node or template that can be rendered.
pub trait Renderable {
    /// Writes the rendered text to `out`.
    fn render<'reg: 'rc, 'rc>(
        &'reg self,
        registry: &'reg Handlebars,
        context: &'rc Context,
        render: &mut RenderContext<'reg>,
        out: &mut dyn Output,
    ) -> HelperResult;
}

impl Renderable for Template {
    fn render<'reg: 'rc, 'rc>(
        &'reg self,
        registry: &'reg Handlebars,
        context: &'rc Context,
        render: &mut RenderContext<'reg>,
        out: &mut dyn Output,
    ) -> HelperResult {
        for node in &self.0 {
            match node {
                Node::Text(text) => out.write(text)?,
                Node::Value {
                    expression,
                    escaped,
                } => {
                    let mut written = String::new();
                    registry.value(expression, context, render, &mut written)?;
                    out.write(&if *escaped {
                        registry.escape(&written)?
                    } else {
                        written
                    })?;
                }
                Node::Block {
                    expression,
                    parameter,
                    body,
                    otherwise,
                } => {
                    let params = registry.params(&expression.arguments, context, render)?;
                    let block = Block {
                        parameter: parameter.as_deref(),
                        body,
                        otherwise: otherwise.as_ref(),
                    };
                    registry.block(&expression.name, params, &block, context, render, out)?;
                }
            }
        }
        Ok(())
    }
}

struct Block<'reg> {
    parameter: Option<&'reg str>,
    body: &'reg Template,
    otherwise: Option<&'reg Template>,
}

/// The registry of templates and helpers.
#[derive(Default)]
pub struct Handlebars {
    escape: Option<EscapeFn>,
    helpers: BTreeMap<String, Box<dyn HelperDef>>,
    templates: BTreeMap<String, Template>,
}

impl Handlebars {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the escape function, without which rendering a `{{value}}` fails.
    pub fn register_escape_fn(&mut self, escape: EscapeFn) {
        self.escape = Some(escape);
    }

    /// Adds a helper under a name.
    pub fn register_helper(&mut self, name: &str, helper: Box<dyn HelperDef>) {
        self.helpers.insert(name.to_owned(), helper);
    }

    /// Parses a template and adds it under a name.
    #[expect(clippy::needless_pass_by_value, reason = "the caller has a String")]
    pub fn register_template_string(
        &mut self,
        name: &str,
        text: String,
    ) -> Result<(), TemplateError> {
        self.templates
            .insert(name.to_owned(), Template::parse(&text)?);
        Ok(())
    }

    /// Does nothing, because rendering is always strict.
    ///
    /// # Panics
    ///
    /// If `strict` is false.
    pub fn set_strict_mode(&mut self, strict: bool) {
        assert!(strict, "only strict mode is implemented");
    }

    /// Renders the template of this name.
    pub fn render<T: Serialize>(&self, name: &str, data: &T) -> Result<String, RenderError> {
        let template = self
            .templates
            .get(name)
            .ok_or_else(|| RenderError(format!("unknown template: {name}")))?;
        let context =
            Context(serde_json::to_value(data).map_err(|error| RenderError(error.to_string()))?);
        let mut out = String::new();
        template.render(self, &context, &mut RenderContext::default(), &mut out)?;
        Ok(out)
    }

    fn escape(&self, text: &str) -> Result<String, RenderError> {
        self.escape
            .map(|escape| escape(text))
            .ok_or_else(|| RenderError::new("no escape function is registered"))
    }

    fn helper(&self, name: &str) -> Result<&dyn HelperDef, RenderError> {
        self.helpers
            .get(name)
            .map(Box::as_ref)
            .ok_or_else(|| RenderError(format!("unknown helper: {name}")))
    }

    fn params<'reg: 'rc, 'rc>(
        &'reg self,
        arguments: &'reg [Argument],
        context: &'rc Context,
        render: &mut RenderContext<'reg>,
    ) -> Result<Vec<Param<'reg, 'rc>>, RenderError> {
        let mut params = Vec::with_capacity(arguments.len());
        for argument in arguments {
            params.push(Param(match argument {
                Argument::Path(path) => render.find(path, context)?,
                Argument::Expression(Expression { name, arguments }) => {
                    let helper = Helper {
                        params: self.params(arguments, context, render)?,
                        block: None,
                    };
                    let value = self
                        .helper(name)?
                        .call_inner(&helper, self, context, render)?;
                    value.ok_or_else(|| RenderError(format!("helper {name} returned no value")))?
                }
            }));
        }
        Ok(params)
    }

    /// `{{path}}` or `{{helper argument}}`
    fn value<'reg: 'rc, 'rc>(
        &'reg self,
        expression: &'reg Expression,
        context: &'rc Context,
        render: &mut RenderContext<'reg>,
        out: &mut String,
    ) -> HelperResult {
        if expression.arguments.is_empty() && !self.helpers.contains_key(&expression.name) {
            out.push_str(&text(
                Param(render.find(&expression.name, context)?).value(),
            )?);
            return Ok(());
        }
        let helper = Helper {
            params: self.params(&expression.arguments, context, render)?,
            block: None,
        };
        self.helper(&expression.name)?
            .call(&helper, self, context, render, out)
    }

    fn block<'reg: 'rc, 'rc>(
        &'reg self,
        name: &str,
        params: Vec<Param<'reg, 'rc>>,
        block: &Block<'reg>,
        context: &'rc Context,
        render: &mut RenderContext<'reg>,
        out: &mut dyn Output,
    ) -> HelperResult {
        if !matches!(name, "if" | "unless" | "each") {
            if block.otherwise.is_some() {
                return Err(RenderError(format!(
                    "{{{{else}}}} in {name} is not implemented"
                )));
            }
            let helper = Helper {
                params,
                block: Some((block.body, block.parameter)),
            };
            return self.helper(name)?.call(&helper, self, context, render, out);
        }
        let [param] = params.as_slice() else {
            return Err(RenderError(format!("{name} takes one argument")));
        };
        if name != "each" {
            let branch = if is_true(param.value()) == (name == "if") {
                Some(block.body)
            } else {
                block.otherwise
            };
            return branch.map_or(Ok(()), |branch| branch.render(self, context, render, out));
        }
        let (JsonValue::Array(items), Some(name), None) =
            (param.value(), block.parameter, block.otherwise)
        else {
            return Err(RenderError::new(
                "each takes a list and a block parameter, and no {{else}}",
            ));
        };
        for (index, item) in items.iter().enumerate() {
            let mut inner = render.derive();
            inner.set_local_var("@index".to_owned(), index.into());
            inner.set_local_var("@first".to_owned(), (index == 0).into());
            inner.set_local_var("@last".to_owned(), (index + 1 == items.len()).into());
            inner.push_block_context(&BTreeMap::from([(name, item)]))?;
            block.body.render(self, context, &mut inner, out)?;
        }
        Ok(())
    }
}

fn is_true(value: &JsonValue) -> bool {
    match value {
        JsonValue::Null => false,
        JsonValue::Bool(value) => *value,
        JsonValue::Number(number) => number.as_f64() != Some(0.0),
        JsonValue::String(text) => !text.is_empty(),
        JsonValue::Array(items) => !items.is_empty(),
        JsonValue::Object(entries) => !entries.is_empty(),
    }
}

/// The text that a value renders as.
fn text(value: &JsonValue) -> Result<String, RenderError> {
    match value {
        JsonValue::String(text) => Ok(text.clone()),
        JsonValue::Number(_) | JsonValue::Bool(_) => Ok(value.to_string()),
        _ => Err(RenderError(format!("cannot render as text: {value}"))),
    }
}
