//! Transactions of money.

use super::definition::family;

family! {
    /// A change of a transaction's state, with `action_type` `transaction`; goes to `audit.events`.
    ///
    /// Each change of state is an event of its own. The target is the transaction.
    ///
    /// ```
    /// use tracing_audit::{Status, Transaction};
    ///
    /// let captured = Transaction::new("t-17")
    ///     .amount_cents(4_200)
    ///     .currency("EUR")
    ///     .previous_state("authorized")
    ///     .state("captured")
    ///     .payment_reference("pi_3N")
    ///     .actor("billing")
    ///     .status(Status::Succeeded);
    /// ```
    Transaction, "transaction";
    transaction = target_of("transaction");
    /// Sets the amount, in hundredths of the currency's unit; negative for a refund.
    pub amount_cents = integer("amount_cents");
    /// Sets the currency, such as `EUR`.
    pub currency = text("currency");
    /// Sets the state that the transaction has now.
    pub state = text("state");
    /// Sets the state that it had before.
    pub previous_state = text("previous_state");
    /// Sets the payment, by the id that its provider has given it.
    pub payment_reference = text("payment_reference");
    /// Sets who or what changed the state.
    pub actor = text("actor");
}

impl Transaction {
    /// Makes a record of the transaction with this id.
    pub fn new(id: impl Into<String>) -> Self {
        Self::event().transaction(id)
    }
}
