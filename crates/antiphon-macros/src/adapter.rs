//! What a service's trait becomes for workers: an adapter that offers its procedures with their schemas and runs them.

use crate::procedure::{Parameter, Procedure};
use crate::service::Service;
use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote};
use syn::{Ident, Type};

/// The adapter of a service.
pub fn expand(service: &Service) -> TokenStream {
    let Service { ident, visibility, procedures, .. } = service;
    let adapter = format_ident!("{ident}Service");
    let client = format_ident!("{ident}Client");
    let about = format!("Runs the procedures of an implementation of [`{ident}`] on a worker.");
    let offers = procedures.iter().map(|procedure| {
        let (constant, schema) = (procedure.constant(), schema(procedure));
        quote!(#client::#constant.offered(#schema))
    });
    let starts = procedures.iter().enumerate().map(|(place, procedure)| start(service, place, procedure));
    let constructors = constructors(ident, &adapter);
    quote! {
        #[doc = #about]
        #visibility struct #adapter<T> {
            service: ::std::sync::Arc<T>,
        }

        #constructors

        impl<T: #ident> ::antiphon::Service for #adapter<T> {
            fn procedures(&self) -> ::std::vec::Vec<::antiphon::made::OfferedProcedure> {
                ::std::vec![#(#offers),*]
            }

            fn start(&self, place: usize, attempt: ::antiphon::Attempt) {
                let service = ::std::sync::Arc::clone(&self.service);
                match place {
                    #(#starts)*
                    _ => ::core::mem::drop(attempt),
                }
            }
        }
    }
}

fn constructors(ident: &Ident, adapter: &Ident) -> TokenStream {
    quote! {
        #[allow(dead_code)]
        impl<T: #ident> #adapter<T> {
            /// Runs `service`, which all attempts share.
            #[must_use]
            pub fn new(service: T) -> Self {
                Self::shared(::std::sync::Arc::new(service))
            }

            /// The same for a service that others use, too.
            #[must_use]
            pub const fn shared(service: ::std::sync::Arc<T>) -> Self {
                Self { service }
            }
        }
    }
}

fn start(service: &Service, place: usize, procedure: &Procedure) -> TokenStream {
    let client = format_ident!("{}Client", service.ident);
    let (method, constant) = (&procedure.method, procedure.constant());
    let context =
        procedure.takes_context.then(|| if procedure.is_async { quote!(&context,) } else { quote!(context,) });
    let arguments = match procedure.parameters.as_slice() {
        [] => quote!(),
        [_] => quote!(arguments),
        several => {
            let names = several.iter().map(|parameter| &parameter.name);
            quote!(#(arguments.#names),*)
        }
    };
    let context_name = if procedure.takes_context { format_ident!("context") } else { format_ident!("_context") };
    let arguments_name =
        if procedure.parameters.is_empty() { format_ident!("_arguments") } else { format_ident!("arguments") };
    if procedure.is_async {
        quote! {
            #place => attempt.run(&#client::#constant, move |#context_name, #arguments_name| async move {
                service.#method(#context #arguments).await
            }),
        }
    } else {
        quote! {
            #place => attempt.run_blocking(&#client::#constant, move |#context_name, #arguments_name| {
                service.#method(#context #arguments)
            }),
        }
    }
}

fn schema(procedure: &Procedure) -> TokenStream {
    let parameters = procedure.parameters.iter().map(|parameter| {
        let Parameter { name, ty, .. } = parameter;
        let name = name.to_string();
        let optional = parameter.is_optional();
        let type_name = written(ty);
        quote! {
            ::antiphon::SchemaParameter {
                name: ::std::string::String::from(#name),
                optional: #optional,
                type_name: ::std::string::String::from(#type_name),
            }
        }
    });
    let returns = written(&procedure.value);
    quote! {
        ::antiphon::Schema {
            parameters: ::std::vec![#(#parameters),*],
            returns: ::std::string::String::from(#returns),
        }
    }
}

/// A type as people write it.
fn written(ty: &Type) -> String {
    let mut text = ty.to_token_stream().to_string();
    for (spaced, close) in
        [(" < ", "<"), ("< ", "<"), (" >", ">"), (" ,", ","), (" :: ", "::"), (":: ", "::"), ("& ", "&")]
    {
        text = text.replace(spaced, close);
    }
    text
}
