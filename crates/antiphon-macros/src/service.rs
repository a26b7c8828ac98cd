//! A service trait, read and rewritten: what implementations see of it. Its client and adapter are made next door.

use crate::options::name_part;
use crate::procedure::Procedure;
use crate::{adapter, client};
use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use std::collections::HashSet;
use syn::parse::Parser;
use syn::{Attribute, Error, Ident, ItemTrait, LitStr, Result, ReturnType, TraitItem, TraitItemFn, Visibility};

/// A service, read from its trait.
pub struct Service {
    /// The trait's name.
    pub ident: Ident,
    /// Who sees it, and what is made for it.
    pub visibility: Visibility,
    /// Its documentation.
    pub docs: Vec<Attribute>,
    /// Its procedures.
    pub procedures: Vec<Procedure>,
}

/// Expands `#[antiphon::service]`.
pub fn expand(attribute: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let mut item: ItemTrait = syn::parse2(item)
        .map_err(|error| Error::new(error.span(), "#[antiphon::service] is for traits: each method is a procedure"))?;
    let service = read(attribute, &mut item)?;
    rewrite(&mut item)?;
    let client = client::expand(&service);
    let adapter = adapter::expand(&service);
    Ok(quote!(#item #client #adapter))
}

fn read(attribute: TokenStream, item: &mut ItemTrait) -> Result<Service> {
    check_trait(item)?;
    let name = read_name(attribute)?.map_or_else(|| snake_case(&item.ident.to_string()), |name| name.value());
    let (mut procedures, mut names) = (Vec::new(), HashSet::new());
    for member in &mut item.items {
        let TraitItem::Fn(method) = member else {
            return Err(Error::new_spanned(member, "a service has procedures only: move this to another trait"));
        };
        let procedure = Procedure::read(method, &name)?;
        if !names.insert(procedure.name.clone()) {
            let text = format!("two procedures are named {}", procedure.name);
            return Err(Error::new(procedure.method.span(), text));
        }
        procedures.push(procedure);
    }
    if procedures.is_empty() {
        return Err(Error::new_spanned(&item.ident, "a service has at least one procedure"));
    }
    let docs = item.attrs.iter().filter(|attribute| attribute.path().is_ident("doc")).cloned().collect();
    Ok(Service { ident: item.ident.clone(), visibility: item.vis.clone(), docs, procedures })
}

fn check_trait(item: &ItemTrait) -> Result<()> {
    if !item.generics.params.is_empty() || item.generics.where_clause.is_some() {
        return Err(Error::new_spanned(&item.generics, "a service cannot be generic: both sides must know its types"));
    }
    match item.unsafety {
        Some(token) => Err(Error::new_spanned(token, "a service is called from afar: it cannot be unsafe")),
        None => Ok(()),
    }
}

fn read_name(attribute: TokenStream) -> Result<Option<LitStr>> {
    let mut name = None;
    let parser = syn::meta::parser(|meta| {
        if !meta.path.is_ident("name") {
            return Err(meta.error("expected `name = \"..\"`"));
        }
        name = Some(name_part(meta.value()?.parse()?)?);
        Ok(())
    });
    parser.parse2(attribute)?;
    Ok(name)
}

/// `HttpProxy` and `HTTPProxy` are `http_proxy`.
fn snake_case(camel: &str) -> String {
    let characters: Vec<char> = camel.chars().collect();
    let mut snake = String::new();
    for (place, character) in characters.iter().enumerate() {
        let before = place.checked_sub(1).and_then(|place| characters.get(place));
        let after = characters.get(place + 1);
        let starts = before.is_some_and(|before| before.is_lowercase() || before.is_ascii_digit())
            || (before.is_some_and(|before| before.is_uppercase()) && after.is_some_and(|after| after.is_lowercase()));
        if character.is_uppercase() && starts {
            snake.push('_');
        }
        snake.extend(character.to_lowercase());
    }
    snake
}

/// Implementations are shared by threads, and their futures move between them.
fn rewrite(item: &mut ItemTrait) -> Result<()> {
    for bound in [quote!(::core::marker::Send), quote!(::core::marker::Sync), quote!('static)] {
        item.supertraits.push(syn::parse2(bound)?);
    }
    item.colon_token.get_or_insert_default();
    for member in &mut item.items {
        if let TraitItem::Fn(method) = member {
            rewrite_method(method)?;
        }
    }
    Ok(())
}

/// `async fn` becomes a `fn` that returns a future which is `Send`; implementations may still say `async fn`.
fn rewrite_method(method: &mut TraitItemFn) -> Result<()> {
    if method.sig.asyncness.take().is_none() {
        return Ok(());
    }
    let ReturnType::Type(_, output) = &method.sig.output else { return Ok(()) };
    let output = output.to_token_stream();
    method.sig.output = syn::parse2(quote!(-> impl ::core::future::Future<Output = #output> + ::core::marker::Send))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::snake_case;

    #[test]
    fn a_service_is_named_as_its_trait_in_snake_case() {
        for (camel, snake) in
            [("Math", "math"), ("HttpProxy", "http_proxy"), ("HTTPProxy", "http_proxy"), ("Sha256Sum", "sha256_sum")]
        {
            assert_eq!(snake_case(camel), snake);
        }
    }
}
