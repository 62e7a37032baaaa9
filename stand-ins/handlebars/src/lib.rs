//! A stand-in for handlebars 1.1, made for one caller: amq-protocol-codegen 1.4, with the one template of amq-protocol 1.4.
//!
//! It knows values, helpers with paths and nested calls as arguments, `each` (over a list, with a block parameter), `if`, `unless`,
//! `else` and `~`. Anything else fails the build of amq-protocol. It is always strict: a name that there is not is an error. A
//! name means the innermost thing of that name: a value has no path of its own, so that what a helper says about paths
//! changes nothing.

mod template;

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io;
use std::rc::Rc;

use serde::Serialize;
pub use serde_json::Value as JsonValue;

pub use template::Template;
use template::{Argument, Expression, Node};

/// How a value's text gets into the output.
pub type EscapeFn = fn(&str) -> String;

/// What a helper gives.
pub type HelperResult = Result<(), RenderError>;

/// Does not escape.
pub fn no_escape(text: &str) -> String {
    text.to_owned()
}

/// Anything as JSON; null where that can't be.
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> JsonValue {
    serde_json::to_value(value).unwrap_or_default()
}

macro_rules! error {
    ($(#[$doc:meta] $name:ident),*) => { $(
        #[$doc]
        #[derive(Debug)]
        pub struct $name(String);

        impl $name {
            /// With that message.
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
    /// Why a template can't be read.
    TemplateError,
    /// Why a template can't be rendered.
    RenderError
);

impl From<io::Error> for RenderError {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Where the text goes.
pub trait Output {
    /// Appends.
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

/// A value that was found in the data or the template, or made.
#[derive(Debug)]
pub enum ScopedJson<'reg: 'rc, 'rc> {
    /// It stands in the template. (The stand-in reads no such thing.)
    Constant(&'reg JsonValue),
    /// It stands in the data.
    Context(&'rc JsonValue),
    /// Made by a helper, or known by a name of the template.
    Derived(JsonValue),
}

/// An argument of a helper.
#[derive(Debug)]
pub struct Param<'reg: 'rc, 'rc>(ScopedJson<'reg, 'rc>);

impl Param<'_, '_> {
    /// What it is.
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
    /// An argument.
    pub fn param(&self, index: usize) -> Option<&Param<'reg, 'rc>> {
        self.params.get(index)
    }

    /// The inside of the block.
    pub fn template(&self) -> Option<&'reg Template> {
        self.block.map(|(template, _)| template)
    }

    /// The name between `|` and `|`.
    pub fn block_param(&self) -> Option<&'reg str> {
        self.block.and_then(|(_, name)| name)
    }
}

/// A helper: either of its functions.
pub trait HelperDef {
    /// Gives a value.
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
            None => Err(RenderError::new("a helper gives nothing")),
        }
    }
}

/// What names mean at a place of the template.
#[derive(Debug, Clone, Default)]
pub struct RenderContext<'reg> {
    /// The innermost is the last.
    scopes: Vec<Rc<BTreeMap<String, JsonValue>>>,
    /// `@index` and the like.
    locals: BTreeMap<String, JsonValue>,
    registry: std::marker::PhantomData<&'reg ()>,
}

impl RenderContext<'_> {
    /// Another one, in which the same is known.
    #[must_use]
    pub fn derive(&self) -> Self {
        self.clone()
    }

    /// Names the values of a map.
    pub fn push_block_context<T: Serialize>(&mut self, names: &T) -> HelperResult {
        match to_json(names) {
            JsonValue::Object(names) => self.scopes.push(Rc::new(names.into_iter().collect())),
            _ => return Err(RenderError::new("a block's context is no map")),
        }
        Ok(())
    }

    /// Forgets what was named last.
    pub fn pop_block_context(&mut self) {
        self.scopes.pop();
    }

    /// Sets `@index` and the like.
    pub fn set_local_var(&mut self, name: String, value: JsonValue) {
        self.locals.insert(name, value);
    }

    /// Nothing to do: [`RenderContext::derive`] has made a copy.
    pub fn promote_local_vars(&mut self) {}

    /// Nothing to do: what is derived has its own.
    pub fn demote_local_vars(&mut self) {}

    /// Always empty: nothing has a path.
    pub fn get_path(&self) -> &'static str {
        ""
    }

    /// Nothing to do: nothing has a path.
    pub fn set_path(&mut self, _path: String) {}

    /// Nothing to do: nothing has a path.
    pub fn push_local_path_root(&mut self, _path: String) {}

    /// Nothing to do: nothing has a path.
    pub fn pop_local_path_root(&mut self) {}

    fn find<'r: 'rc, 'rc>(
        &self,
        path: &str,
        context: &'rc Context,
    ) -> Result<ScopedJson<'r, 'rc>, RenderError> {
        let missing = || RenderError(format!("there is no {path}"));
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

/// What can be rendered.
pub trait Renderable {
    /// Writes its text.
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

/// Templates, and the helpers for them.
#[derive(Default)]
pub struct Handlebars {
    escape: Option<EscapeFn>,
    helpers: BTreeMap<String, Box<dyn HelperDef>>,
    templates: BTreeMap<String, Template>,
}

impl Handlebars {
    /// Without any.
    pub fn new() -> Self {
        Self::default()
    }

    /// There must be one before something is rendered.
    pub fn register_escape_fn(&mut self, escape: EscapeFn) {
        self.escape = Some(escape);
    }

    /// Adds a helper.
    pub fn register_helper(&mut self, name: &str, helper: Box<dyn HelperDef>) {
        self.helpers.insert(name.to_owned(), helper);
    }

    /// Adds a template.
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

    /// # Panics
    ///
    /// When it should not be strict: it always is.
    pub fn set_strict_mode(&mut self, strict: bool) {
        assert!(strict, "the stand-in for handlebars is always strict");
    }

    /// Renders a template.
    pub fn render<T: Serialize>(&self, name: &str, data: &T) -> Result<String, RenderError> {
        let template = self
            .templates
            .get(name)
            .ok_or_else(|| RenderError(format!("there is no template {name}")))?;
        let context =
            Context(serde_json::to_value(data).map_err(|error| RenderError(error.to_string()))?);
        let mut out = String::new();
        template.render(self, &context, &mut RenderContext::default(), &mut out)?;
        Ok(out)
    }

    fn escape(&self, text: &str) -> Result<String, RenderError> {
        self.escape
            .map(|escape| escape(text))
            .ok_or_else(|| RenderError::new("there is no escape function"))
    }

    fn helper(&self, name: &str) -> Result<&dyn HelperDef, RenderError> {
        self.helpers
            .get(name)
            .map(Box::as_ref)
            .ok_or_else(|| RenderError(format!("there is no helper {name}")))
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
                    value.ok_or_else(|| RenderError(format!("{name} gives no value")))?
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
                    "{{{{else}}}} in {name} is not known to the stand-in"
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

/// What a value writes.
fn text(value: &JsonValue) -> Result<String, RenderError> {
    match value {
        JsonValue::String(text) => Ok(text.clone()),
        JsonValue::Number(_) | JsonValue::Bool(_) => Ok(value.to_string()),
        _ => Err(RenderError(format!("{value} is no text"))),
    }
}
