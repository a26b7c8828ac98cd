//! One method of a service trait, read: what it takes, returns, and is called.

use crate::options::Options;
use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, FnArg, GenericArgument, Ident, Pat, PathArguments, ReceiverKind, Result, ReturnType, TraitItemFn,
    Type,
};

/// A procedure of a service.
pub struct Procedure {
    /// The method's name.
    pub method: Ident,
    /// `service.procedure`.
    pub name: String,
    /// Whether it runs on the runtime.
    pub is_async: bool,
    /// Whether it takes a context first.
    pub takes_context: bool,
    /// What it takes besides.
    pub parameters: Vec<Parameter>,
    /// The type of its value.
    pub value: Type,
    /// The type of its error.
    pub error: Type,
    /// Its documentation.
    pub docs: Vec<Attribute>,
    /// How its calls are treated.
    pub options: Options,
}

/// One parameter of a procedure.
pub struct Parameter {
    /// Its name.
    pub name: Ident,
    /// Its type.
    pub ty: Type,
    /// Its serde attributes.
    pub attributes: Vec<Attribute>,
}

impl Parameter {
    /// Whether it may be missing.
    pub fn is_optional(&self) -> bool {
        is_option(&self.ty) || self.attributes.iter().any(has_default)
    }
}

impl Procedure {
    /// Reads a method, and takes from it the attributes that are not Rust's.
    pub fn read(method: &mut TraitItemFn, service: &str) -> Result<Self> {
        let options = Options::take(&mut method.attrs)?;
        check_signature(method)?;
        let (takes_context, parameters) = read_parameters(method)?;
        let (value, error) = read_result(&method.sig.output, method.sig.ident.span())?;
        let ident = method.sig.ident.clone();
        let whole = options.name.as_ref().map(syn::LitStr::value);
        let procedure = Self {
            name: whole.unwrap_or_else(|| format!("{service}.{}", plain(&ident))),
            is_async: method.sig.asyncness.is_some(),
            takes_context,
            parameters,
            value,
            error,
            docs: method.attrs.iter().filter(|attribute| attribute.path().is_ident("doc")).cloned().collect(),
            options,
            method: ident,
        };
        procedure.check_parameters()?;
        Ok(procedure)
    }

    fn check_parameters(&self) -> Result<()> {
        if let Some(span) = self.options.raw
            && self.parameters.len() != 1
        {
            return Err(Error::new(span, "a `raw` procedure takes one parameter, `Bytes` or `Vec<u8>`"));
        }
        match self.parameters.as_slice() {
            [only] => match only.attributes.first() {
                Some(attribute) => Err(Error::new_spanned(
                    attribute,
                    "the only parameter travels as the value itself, so this has no effect: put it on the value's type",
                )),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// The constant's name, such as `FIB`.
    pub fn constant(&self) -> Ident {
        Ident::new(&plain(&self.method).to_uppercase(), self.method.span())
    }

    /// The struct that holds two or more arguments, such as `MathSumArguments`.
    pub fn arguments_struct(&self, service: &Ident) -> Ident {
        let camel: String = plain(&self.method)
            .split('_')
            .map(|word| {
                let mut characters = word.chars();
                characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
            })
            .collect();
        format_ident!("{service}{camel}Arguments", span = self.method.span())
    }

    /// The type of its arguments.
    pub fn arguments(&self, service: &Ident) -> TokenStream {
        match self.parameters.as_slice() {
            [] => quote!(()),
            [Parameter { ty, .. }] => quote!(#ty),
            _ => {
                let arguments = self.arguments_struct(service);
                quote!(#arguments)
            }
        }
    }
}

/// An identifier without `r#`.
fn plain(ident: &Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").unwrap_or(&text).to_owned()
}

fn check_signature(method: &TraitItemFn) -> Result<()> {
    let signature = &method.sig;
    if let Some(body) = &method.default {
        return Err(Error::new_spanned(body, "a procedure has no body here: implement the trait"));
    }
    if !signature.generics.params.is_empty() || signature.generics.where_clause.is_some() {
        return Err(Error::new_spanned(
            &signature.generics,
            "a procedure cannot be generic: both sides must know its types",
        ));
    }
    let name = signature.ident.to_string();
    if matches!(name.as_str(), "new" | "within") {
        return Err(Error::new_spanned(
            &signature.ident,
            format!("`{name}` is a function of the client: name the procedure otherwise"),
        ));
    }
    if let Some(attribute) = method.attrs.iter().find(|attribute| attribute.path().is_ident("cfg")) {
        return Err(Error::new_spanned(attribute, "a procedure cannot be conditional: both sides must know it"));
    }
    match signature.inputs.first() {
        Some(FnArg::Receiver(receiver)) if matches!(receiver.kind, ReceiverKind::Reference(_, _, None)) => Ok(()),
        Some(FnArg::Receiver(receiver)) => {
            Err(Error::new_spanned(receiver, "a procedure takes `&self`: many calls run at a time"))
        }
        _ => Err(Error::new_spanned(&signature.ident, "a procedure takes `&self` first")),
    }
}

fn read_parameters(method: &mut TraitItemFn) -> Result<(bool, Vec<Parameter>)> {
    let (mut takes_context, mut parameters) = (false, Vec::new());
    for (place, input) in method.sig.inputs.iter_mut().skip(1).enumerate() {
        let FnArg::Typed(input) = input else { continue };
        if is_context(&input.ty) {
            if place != 0 {
                return Err(Error::new_spanned(&input.ty, "the context is the first parameter after `&self`"));
            }
            takes_context = true;
            continue;
        }
        check_owned(&input.ty)?;
        let Pat::Ident(pattern) = &*input.pat else {
            return Err(Error::new_spanned(&input.pat, "a parameter of a procedure is a plain name: it travels by it"));
        };
        let attributes = std::mem::take(&mut input.attrs);
        if let Some(other) = attributes.iter().find(|attribute| !attribute.path().is_ident("serde")) {
            return Err(Error::new_spanned(other, "a parameter of a procedure takes only serde attributes"));
        }
        parameters.push(Parameter { name: pattern.ident.clone(), ty: (*input.ty).clone(), attributes });
    }
    Ok((takes_context, parameters))
}

fn is_context(ty: &Type) -> bool {
    let Type::Reference(reference) = ty else { return false };
    let Type::Path(path) = &*reference.elem else { return false };
    path.path.segments.last().is_some_and(|segment| segment.ident == "Context")
}

fn check_owned(ty: &Type) -> Result<()> {
    match ty {
        Type::Reference(_) => Err(Error::new_spanned(
            ty,
            "a parameter of a procedure is owned, since it comes from another process: use `String` for `&str`, `Vec<T>` for `&[T]`",
        )),
        Type::ImplTrait(_) => {
            Err(Error::new_spanned(ty, "a parameter of a procedure has one type, which both sides know"))
        }
        _ => Ok(()),
    }
}

/// The two types of `Result<V, E>`.
fn read_result(output: &ReturnType, method: Span) -> Result<(Type, Type)> {
    const EXPECTED: &str =
        "a procedure returns `Result<V, E>`, where `E` is `antiphon::Failure` or an enum that derives it";
    let ReturnType::Type(_, ty) = output else { return Err(Error::new(method, EXPECTED)) };
    let wrong = || Error::new(ty.span(), EXPECTED);
    let Type::Path(path) = &**ty else { return Err(wrong()) };
    let last = path.path.segments.last().filter(|segment| segment.ident == "Result").ok_or_else(wrong)?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return Err(wrong()) };
    let types: Vec<&Type> = arguments
        .args
        .iter()
        .filter_map(|argument| match argument {
            GenericArgument::Type(ty) => Some(ty),
            _ => None,
        })
        .collect();
    match types.as_slice() {
        [value, error] => Ok(((*value).clone(), (*error).clone())),
        _ => Err(wrong()),
    }
}

fn is_option(ty: &Type) -> bool {
    let Type::Path(path) = ty else { return false };
    path.path.segments.last().is_some_and(|segment| segment.ident == "Option")
}

fn has_default(attribute: &syn::Attribute) -> bool {
    let mut found = false;
    // What serde says to an attribute is its own business; here only a default counts.
    let parsed = attribute.parse_nested_meta(|meta| {
        found |= meta.path.is_ident("default");
        if meta.input.peek(syn::Token![=]) {
            meta.value()?.parse::<syn::Lit>()?;
        }
        Ok(())
    });
    parsed.is_ok() && found
}
