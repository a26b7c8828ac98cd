//! What holds for the calls of one procedure: what an operator has set for it, and else the broker's limits. What is
//! set is recorded as it then stands, so that it holds after a restart.

use crate::budget::UNBOUNDED;
use crate::codec::{Malformed, Reader, Writer};
use crate::effect::{Body, Effects, Handle, Refusal, Role, Urgency};
use crate::record::Record;
use crate::{Engine, Limits};
use alloc::borrow::Cow;
use antiphon_protocol::{Name, Rate, Setting, Settings};

/// What was set, and what therefore holds.
pub(crate) struct Terms {
    settings: Settings,
    /// Where the settings are recorded.
    handle: Handle,
    pub queued_max: u64,
    pub queued_bytes_max: u64,
    pub tenant_queued_max: u64,
    pub tenant_queued_bytes_max: u64,
    pub outcome_ms: u64,
    pub outcome_bytes: u64,
    pub dead_letter_ms: u64,
    pub dead_letters_max: u64,
    pub retry_percent: u64,
    pub retries_min: u64,
}

impl Terms {
    pub fn new(limits: &Limits) -> Self {
        Self::of(Settings::default(), Handle::NONE, limits)
    }

    fn of(settings: Settings, handle: Handle, limits: &Limits) -> Self {
        let get = |setting, or: u64| settings.get(setting).unwrap_or(or);
        Self {
            handle,
            queued_max: get(Setting::QueuedMax, limits.queued_max.into()),
            queued_bytes_max: get(Setting::QueuedBytesMax, limits.queued_bytes_max),
            tenant_queued_max: get(Setting::TenantQueuedMax, limits.tenant_queued_max.into()),
            tenant_queued_bytes_max: get(Setting::TenantQueuedBytesMax, limits.tenant_queued_bytes_max),
            outcome_ms: get(Setting::OutcomeMs, limits.outcome_ms),
            outcome_bytes: get(Setting::OutcomeBytes, limits.outcome_bytes),
            dead_letter_ms: get(Setting::DeadLetterMs, limits.dead_letter_ms),
            dead_letters_max: get(Setting::DeadLettersMax, limits.dead_letters_max.into()),
            retry_percent: get(
                Setting::RetryPercent,
                match limits.retry_percent {
                    u32::MAX => UNBOUNDED,
                    percent => percent.into(),
                },
            ),
            retries_min: get(Setting::RetriesMin, limits.retries_min.into()),
            settings,
        }
    }
}

impl Terms {
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl Engine {
    /// What is set for a procedure.
    #[must_use]
    pub fn settings(&self, procedure: &Name) -> Settings {
        let place = self.procedures.find(procedure);
        place.map_or_else(Settings::default, |place| self.procedures.get(place).terms.settings.clone())
    }

    /// Sets something for a procedure (`None` leaves it to the broker again); says what is set then.
    ///
    /// # Errors
    /// [`Refusal::ProceduresFull`] when the procedure is not known and there are as many as may be; [`Refusal::Rate`] when
    /// what would be set is no rate: it would hold nothing back; [`Refusal::BurstWithoutRate`] likewise.
    pub fn configure(
        &mut self,
        procedure: &Name,
        changes: &[(Setting, Option<u64>)],
        effects: &mut impl Effects,
    ) -> Result<Settings, Refusal> {
        if self.procedures.find(procedure).is_none() && self.procedures.len() >= self.limits.procedures_max {
            return Err(Refusal::ProceduresFull { limit: self.limits.procedures_max });
        }
        let mut settings = self.settings(procedure);
        for (setting, value) in changes {
            settings.set(*setting, *value);
        }
        if settings.get(Setting::RateCount).is_some_and(|count| count != 0) && Rate::of(&settings).is_none() {
            return Err(Refusal::Rate);
        }
        if changes.iter().any(|change| matches!(change, (Setting::RateBurst, Some(_))))
            && settings.get(Setting::RateCount).is_none()
        {
            return Err(Refusal::BurstWithoutRate);
        }
        let place = self.procedures.open(procedure, &self.limits);
        if settings != self.procedures.get(place).terms.settings {
            self.put_settings(place, settings.clone());
            self.put_rule(place);
            self.record_settings(place, effects);
        }
        Ok(settings)
    }

    fn put_settings(&mut self, place: u32, settings: Settings) {
        let handle = self.procedures.get(place).terms.handle;
        self.procedures.get_mut(place).terms = Terms::of(settings, handle, &self.limits);
    }

    fn record_settings(&mut self, place: u32, effects: &mut impl Effects) {
        if !self.limits.durable {
            return;
        }
        let it = self.procedures.get(place);
        let (old, settings) = (it.terms.handle, Cow::Borrowed(&it.terms.settings));
        let record = Record::Configured { procedure: it.name.clone(), settings };
        let handle = effects.record(&record, Body::None, Role::Base, Urgency::Now);
        if old != Handle::NONE {
            effects.release(old);
        }
        self.procedures.configured.remove(&old);
        self.procedures.configured.insert(handle, place);
        self.procedures.get_mut(place).terms.handle = handle;
    }

    /// The settings recorded at this handle are recorded again, if they still hold. Also where nothing is set any
    /// more: an older record may stand in a segment that is kept for longer.
    pub(crate) fn settings_record(&mut self, at: Handle, effects: &mut impl Effects) -> bool {
        let Some(place) = self.procedures.configured.get(&at).copied() else { return false };
        self.record_settings(place, effects);
        true
    }

    pub(crate) fn replay_settings(&mut self, procedure: &Name, settings: Settings, handle: Handle) {
        let place = self.procedures.open(procedure, &self.limits);
        let old = self.procedures.get(place).terms.handle;
        self.procedures.configured.remove(&old);
        self.procedures.configured.insert(handle, place);
        self.procedures.get_mut(place).terms = Terms::of(settings, handle, &self.limits);
    }
}

pub(crate) fn encode_settings(settings: &Settings, to: &mut Writer<'_>) {
    to.u8(u8::try_from(settings.0.len()).expect("fewer settings than numbers of them"));
    for (setting, value) in &settings.0 {
        to.u8(*setting as u8);
        to.u64(*value);
    }
}

pub(crate) fn decode_settings(from: &mut Reader<'_>) -> Result<Settings, Malformed> {
    let mut settings = Settings::default();
    for _ in 0..from.u8()? {
        let setting = Setting::from_number(from.u8()?).ok_or(Malformed)?;
        settings.set(setting, Some(from.u64()?));
    }
    Ok(settings)
}
