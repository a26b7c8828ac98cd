//! What a service's trait becomes for callers: a client, a constant per procedure, a struct for many arguments.

use crate::procedure::{Parameter, Procedure};
use crate::service::Service;
use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::Ident;

/// The client of a service.
pub fn expand(service: &Service) -> TokenStream {
    let Service { ident, visibility, docs, procedures } = service;
    let client = format_ident!("{ident}Client");
    let about = format!("Calls the procedures of [`{ident}`].");
    let arguments = procedures.iter().filter_map(|procedure| arguments_struct(service, procedure));
    let constants = procedures.iter().map(|procedure| constant(service, procedure));
    let methods = procedures.iter().map(|procedure| method(service, procedure));
    quote! {
        #(#arguments)*

        #[doc = #about]
        #[doc = ""]
        #(#docs)*
        #[derive(Clone, Debug)]
        #visibility struct #client {
            antiphon: ::antiphon::Antiphon,
        }

        #[allow(dead_code)]
        impl #client {
            #(#constants)*

            /// A client that calls over this connection.
            #[must_use]
            pub fn new(antiphon: &::antiphon::Antiphon) -> Self {
                Self { antiphon: ::core::clone::Clone::clone(antiphon) }
            }

            /// A client for calls on behalf of the call that `context` is of: they take over its deadline and trace.
            #[must_use]
            pub fn within(context: &::antiphon::Context) -> Self {
                Self::new(context.antiphon())
            }

            #(#methods)*
        }
    }
}

/// The struct that two or more arguments travel as.
fn arguments_struct(service: &Service, procedure: &Procedure) -> Option<TokenStream> {
    if procedure.parameters.len() < 2 {
        return None;
    }
    let visibility = &service.visibility;
    let name = procedure.arguments_struct(&service.ident);
    let fields =
        procedure.parameters.iter().map(|Parameter { name, ty, attributes }| quote!(#(#attributes)* pub #name: #ty));
    let about = format!("The arguments of `{}`.", procedure.name);
    Some(quote! {
        #[doc = #about]
        #[allow(missing_docs)]
        #[derive(::antiphon::made::serde::Serialize, ::antiphon::made::serde::Deserialize)]
        #[serde(crate = "::antiphon::made::serde")]
        #visibility struct #name { #(#fields,)* }
    })
}

fn constant(service: &Service, procedure: &Procedure) -> TokenStream {
    let (constant, name) = (procedure.constant(), &procedure.name);
    let arguments = procedure.arguments(&service.ident);
    let Procedure { value, error, .. } = procedure;
    let constructor = match (procedure.options.raw, procedure.parameters.is_empty()) {
        (Some(_), _) => "raw",
        (None, true) => "without_parameters",
        (None, false) => "new",
    };
    let constructor = Ident::new(constructor, procedure.method.span());
    let setters = procedure.options.setters();
    let about = format!("The procedure `{name}`.");
    // At the method, so that a type which cannot travel is reported there.
    quote_spanned! {procedure.method.span()=>
        #[doc = #about]
        pub const #constant: ::antiphon::Procedure<#arguments, #value, #error> =
            ::antiphon::Procedure::#constructor(#name)#setters;
    }
}

fn method(service: &Service, procedure: &Procedure) -> TokenStream {
    let Procedure { method, value, error, docs, .. } = procedure;
    let client = format_ident!("{}Client", service.ident);
    let constant = procedure.constant();
    let arguments = procedure.arguments(&service.ident);
    let inputs = procedure.parameters.iter().map(|Parameter { name, ty, .. }| quote!(#name: #ty));
    let names: Vec<_> = procedure.parameters.iter().map(|parameter| &parameter.name).collect();
    let value_of_arguments = match names.as_slice() {
        [] => quote!(()),
        [only] => quote!(#only),
        _ => quote!(#arguments { #(#names),* }),
    };
    let sent = procedure.parameters.iter().map(|parameter| parameter.name.to_string());
    let optional = procedure.parameters.iter().map(Parameter::is_optional);
    let about = format!("Calls `{}`.", procedure.name);
    quote! {
        #[doc = #about]
        #[doc = ""]
        #(#docs)*
        pub fn #method(&self, #(#inputs),*) -> ::antiphon::CallBuilder<#arguments, #value, #error> {
            // One route for all calls of the process: brokers recognise it without comparing.
            static ROUTE: ::std::sync::LazyLock<::std::sync::Arc<::antiphon::made::Route>> =
                ::std::sync::LazyLock::new(|| ::std::sync::Arc::new(#client::#constant.route_with(&[#((#sent, #optional)),*])));
            ::antiphon::CallBuilder::new(
                &self.antiphon,
                Self::#constant,
                ::std::sync::Arc::clone(&ROUTE),
                #value_of_arguments,
            )
        }
    }
}
