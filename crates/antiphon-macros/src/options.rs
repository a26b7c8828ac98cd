//! The options of a procedure, from `#[procedure(..)]`.

use crate::duration::milliseconds;
use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::{Attribute, Error, Lit, LitInt, LitStr, Result};

/// The options of a procedure; `None` leaves the default.
#[derive(Default)]
pub struct Options {
    idempotent: bool,
    at_most_once: bool,
    attempts: Option<(u16, Span)>,
    attempt_timeout_ms: Option<u32>,
    backoff_ms: Option<u32>,
    backoff_factor_tenths: Option<u16>,
    backoff_max_ms: Option<u32>,
    lane: Option<LitStr>,
    concurrency: Option<u32>,
    slots: Option<u8>,
    /// The whole name, instead of the service's and the method's.
    pub name: Option<LitStr>,
    /// Its parameter and value are bytes as they are.
    pub raw: Option<Span>,
}

impl Options {
    /// Takes the `procedure` attributes out of `attributes`.
    pub fn take(attributes: &mut Vec<Attribute>) -> Result<Self> {
        let mut options = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("procedure")) {
            attribute.parse_nested_meta(|meta| options.set(&meta))?;
        }
        attributes.retain(|attribute| !attribute.path().is_ident("procedure"));
        Ok(options)
    }

    fn set(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        let Some(name) = meta.path.get_ident() else { return Err(meta.error(KNOWN)) };
        match name.to_string().as_str() {
            "idempotent" => self.idempotent = true,
            "at_most_once" => self.at_most_once = true,
            "raw" => self.raw = Some(name.span()),
            "attempts" => self.attempts = Some((attempts(&meta.value()?.parse()?)?, name.span())),
            "attempt_timeout" => self.attempt_timeout_ms = Some(milliseconds(&meta.value()?.parse()?)?),
            "backoff" => self.backoff_ms = Some(milliseconds(&meta.value()?.parse()?)?),
            "backoff_factor" => self.backoff_factor_tenths = Some(tenths(&meta.value()?.parse()?)?),
            "backoff_max" => self.backoff_max_ms = Some(milliseconds(&meta.value()?.parse()?)?),
            "lane" => self.lane = Some(name_part(meta.value()?.parse()?)?),
            "concurrency" => self.concurrency = Some(at_least_one(&meta.value()?.parse()?)?),
            "slots" => self.slots = Some(slots(&meta.value()?.parse()?)?),
            "name" => self.name = Some(name_part(meta.value()?.parse()?)?),
            _ => return Err(meta.error(KNOWN)),
        }
        self.check(meta)
    }

    fn check(&self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        if self.at_most_once && self.idempotent {
            return Err(meta.error("`idempotent` says that running twice does no harm, `at_most_once` forbids it"));
        }
        match self.attempts {
            Some((attempts, span)) if attempts > 1 && self.at_most_once => {
                Err(Error::new(span, "an `at_most_once` procedure has one attempt"))
            }
            _ => Ok(()),
        }
    }

    /// The calls that set these options on a constant procedure.
    pub fn setters(&self) -> TokenStream {
        let idempotent = self.idempotent.then(|| quote!(.idempotent()));
        let attempts = self.attempts.map(|(attempts, _)| quote!(.attempts(#attempts)));
        let at_most_once = self.at_most_once.then(|| quote!(.at_most_once()));
        let timeout = self.attempt_timeout_ms.map(|ms| quote!(.attempt_timeout_ms(#ms)));
        let backoff = self.backoff();
        let lane = self.lane.as_ref().map(|lane| quote!(.lane(#lane)));
        let concurrency = self.concurrency.map(|limit| quote!(.concurrency(#limit)));
        let slots = self.slots.map(|slots| quote!(.slots(#slots)));
        quote!(#idempotent #attempts #at_most_once #timeout #backoff #lane #concurrency #slots)
    }

    fn backoff(&self) -> Option<TokenStream> {
        if self.backoff_ms.is_none() && self.backoff_factor_tenths.is_none() && self.backoff_max_ms.is_none() {
            return None;
        }
        let first = self.backoff_ms.map(|ms| quote!(first_ms: #ms,));
        let factor = self.backoff_factor_tenths.map(|tenths| quote!(factor_tenths: #tenths,));
        let max = self.backoff_max_ms.map(|ms| quote!(max_ms: #ms,));
        let all = first.is_some() && factor.is_some() && max.is_some();
        let rest = (!all).then(|| quote!(..::antiphon::Backoff::DEFAULT));
        Some(quote!(.backoff(::antiphon::Backoff { #first #factor #max #rest })))
    }
}

const KNOWN: &str = "expected one of: idempotent, at_most_once, attempts, attempt_timeout, backoff, backoff_factor, \
                     backoff_max, lane, concurrency, slots, name, raw";

fn at_least_one(literal: &LitInt) -> Result<u32> {
    match literal.base10_parse::<u32>() {
        Ok(limit) if limit > 0 => Ok(limit),
        _ => Err(Error::new(literal.span(), "as many calls of one concurrency key as this run at a time: at least 1")),
    }
}

fn slots(literal: &LitInt) -> Result<u8> {
    match literal.base10_parse::<u8>() {
        Ok(slots) if (1..=64).contains(&slots) => Ok(slots),
        _ => Err(Error::new(literal.span(), "a call takes 1 to 64 slots of its worker")),
    }
}

fn attempts(literal: &LitInt) -> Result<u16> {
    match literal.base10_parse::<u16>() {
        Ok(attempts) if attempts > 0 => Ok(attempts),
        _ => Err(Error::new(literal.span(), "attempts are 1 to 65535")),
    }
}

/// A factor of at least 1, in tenths.
fn tenths(literal: &Lit) -> Result<u16> {
    let wrong = || Error::new(literal.span(), "a backoff factor is a number from 1 to 100, such as 2 or 1.5");
    let text = match literal {
        Lit::Int(number) => number.base10_digits().to_owned(),
        Lit::Float(number) => number.base10_digits().to_owned(),
        _ => return Err(wrong()),
    };
    let (whole, part) = text.split_once('.').unwrap_or((&text, "0"));
    let whole: u16 = whole.parse().map_err(|_| wrong())?;
    let part: u16 = match part {
        "" => 0,
        digit if digit.len() == 1 => digit.parse().map_err(|_| wrong())?,
        _ => return Err(Error::new(literal.span(), "a backoff factor has at most one decimal")),
    };
    if (1..=100).contains(&whole) { Ok(whole * 10 + part) } else { Err(wrong()) }
}

/// A part of a name: of a service, or of a procedure behind it.
pub fn name_part(literal: LitStr) -> Result<LitStr> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-');
    let text = literal.value();
    if text.is_empty() || text.len() > 120 || !text.bytes().all(allowed) {
        return Err(Error::new(literal.span(), "a name has 1 to 120 characters out of a-z 0-9 _ . -"));
    }
    Ok(literal)
}
