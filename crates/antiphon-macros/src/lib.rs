//! The service attribute and the Failure derive of Antiphon.

use proc_macro::TokenStream;

#[proc_macro_attribute]
pub fn service(_: TokenStream, item: TokenStream) -> TokenStream {
    item
}

#[proc_macro_derive(Failure, attributes(failure))]
pub fn failure(_: TokenStream) -> TokenStream {
    TokenStream::new()
}
