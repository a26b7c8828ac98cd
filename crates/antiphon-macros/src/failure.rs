//! `#[derive(Failure)]`: a status code, whether to try again, and when, for every variant of an error.

use crate::duration::milliseconds;
use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Attribute, Data, DeriveInput, Error, Ident, LitBool, Result, Token};

/// gRPC's codes but `Ok`, which is no failure.
const CODES: &[&str] = &[
    "Cancelled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// What `#[failure(..)]` says.
#[derive(Clone, Default)]
struct Options {
    code: Option<Ident>,
    retryable: Option<bool>,
    retry_after_ms: Option<u32>,
}

/// Expands the derive.
pub fn expand(item: TokenStream) -> Result<TokenStream> {
    let item: DeriveInput = syn::parse2(item)?;
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &item.generics,
            "an error of a procedure cannot be generic: both sides must know it",
        ));
    }
    let whole = read(&item.attrs, Options::default())?;
    let arms: Vec<(TokenStream, Options)> = match &item.data {
        Data::Enum(data) => data
            .variants
            .iter()
            .map(|variant| {
                let name = &variant.ident;
                Ok((quote!(Self::#name { .. }), read(&variant.attrs, whole.clone())?))
            })
            .collect::<Result<_>>()?,
        Data::Struct(_) => vec![(quote!(_), whole)],
        Data::Union(data) => {
            return Err(Error::new_spanned(data.union_token, "an error of a procedure is an enum or a struct"));
        }
    };
    if arms.is_empty() {
        return Err(Error::new_spanned(&item.ident, "an error without variants never happens: return Failure instead"));
    }
    Ok(implementation(&item.ident, &arms))
}

fn implementation(ident: &Ident, arms: &[(TokenStream, Options)]) -> TokenStream {
    let codes = arms.iter().map(|(pattern, options)| {
        let code = options.code.clone().unwrap_or_else(|| Ident::new("Unknown", ident.span()));
        quote!(#pattern => ::antiphon::Code::#code)
    });
    let retryable = arms.iter().map(|(pattern, options)| {
        let unavailable = options.code.as_ref().is_some_and(|code| code == "Unavailable");
        let retryable = options.retryable.unwrap_or(unavailable);
        quote!(#pattern => #retryable)
    });
    let retry_after = arms.iter().map(|(pattern, options)| match options.retry_after_ms {
        Some(ms) => quote!(#pattern => ::core::option::Option::Some(#ms)),
        None => quote!(#pattern => ::core::option::Option::None),
    });
    // At the error's name, so that a missing Serialize, Deserialize or Display is reported there.
    quote_spanned! {ident.span()=>
        impl ::antiphon::ProcedureError for #ident {
            fn code(&self) -> ::antiphon::Code {
                match self { #(#codes,)* }
            }

            fn is_retryable(&self) -> bool {
                match self { #(#retryable,)* }
            }

            fn to_failure(&self, content_type: ::antiphon::ContentType) -> ::antiphon::Failure {
                let code = ::antiphon::ProcedureError::code(self);
                let retry_after_ms = match self { #(#retry_after,)* };
                ::antiphon::made::encode_error(self, code, retry_after_ms, content_type)
            }

            fn from_failure(
                failure: ::antiphon::Failure,
            ) -> ::core::result::Result<Self, ::antiphon::Failure> {
                ::antiphon::made::decode_error(failure)
            }
        }
    }
}

/// Reads the `failure` attributes; what they do not say stays as in `options`.
fn read(attributes: &[Attribute], mut options: Options) -> Result<Options> {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("failure")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("code") {
                options.code = Some(code(meta.value()?.parse()?)?);
            } else if meta.path.is_ident("retryable") {
                let given = meta.input.peek(Token![=]);
                options.retryable = Some(!given || meta.value()?.parse::<LitBool>()?.value());
            } else if meta.path.is_ident("retry_after") {
                options.retry_after_ms = Some(milliseconds(&meta.value()?.parse()?)?);
            } else {
                return Err(meta.error("expected one of: code, retryable, retry_after"));
            }
            Ok(())
        })?;
    }
    Ok(options)
}

fn code(ident: Ident) -> Result<Ident> {
    if ident == "Ok" {
        return Err(Error::new(ident.span(), "`Ok` is no failure"));
    }
    if CODES.iter().any(|code| ident == code) {
        return Ok(ident);
    }
    Err(Error::new(ident.span(), format!("no such status code; expected one of: {}", CODES.join(", "))))
}
