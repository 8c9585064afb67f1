//! Mandates: how much an agent may spend.

use super::definition::family;

family! {
    /// A mandate that was given, changed or withdrawn, with `action_type` `mandate`; goes to
    /// `audit.events`.
    ///
    /// The target is the mandate.
    ///
    /// ```
    /// use tracing_audit::Mandate;
    ///
    /// let mandate = Mandate::new("m-3")
    ///     .limit_cents(50_000)
    ///     .currency("EUR")
    ///     .period("month")
    ///     .state("active");
    /// ```
    Mandate, "mandate";
    mandate = target_of("mandate");
    /// Sets the most that may be spent in a period, in hundredths of the currency's unit.
    pub limit_cents = integer("limit_cents");
    /// Sets the currency, such as `EUR`.
    pub currency = text("currency");
    /// Sets the period, such as `month`.
    pub period = text("period");
    /// Sets the state that the mandate has now.
    pub state = text("state");
}

impl Mandate {
    /// Makes a record of the mandate with this id.
    pub fn new(id: impl Into<String>) -> Self {
        Self::event().mandate(id)
    }
}
