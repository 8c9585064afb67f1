//! Decisions on writes.

use super::definition::{family, words};

words! {
    /// What was decided on a write.
    ///
    /// ```
    /// use tracing_audit::Decision;
    /// assert_eq!(Decision::Approved.as_str(), "approved");
    /// ```
    Decision {
        /// The write may run; the status is `succeeded`.
        Approved = "approved";
        /// Whoever asked for the write took it back; the status is `cancelled`.
        Cancelled = "cancelled";
        /// The write may not run; the status is `rejected`.
        Rejected = "rejected";
    }
}

family! {
    /// A decision on a write, with `action_type` `approval`; goes to `audit.events`.
    ///
    /// The status follows from the decision unless it is set. A write that was rejected can have a
    /// [`QueryRun`](crate::QueryRun) with [`Status::Rejected`](crate::Status::Rejected) as well.
    ///
    /// ```
    /// use tracing_audit::{Approval, Decision};
    ///
    /// let approval = Approval::new(Decision::Approved)
    ///     .sql_text("UPDATE orders SET paid = true WHERE id = 17")
    ///     .input_summary("Mark order 17 as paid")
    ///     .approved_by("alice")
    ///     .approver_role("accountant")
    ///     .rows_affected(1);
    /// ```
    Approval, "approval";
    /// Sets the decision.
    decision = word("decision", Decision);
    /// Sets the statement.
    pub sql_text = text("sql_text");
    /// Sets a summary of the write.
    pub input_summary = summary(InputSummary);
    /// Sets who decided.
    pub approved_by = text("approved_by");
    /// Sets the role in which they decided.
    pub approver_role = text("approver_role");
    /// Sets the number of rows that the write changed.
    pub rows_affected = integer("rows_affected");
    /// Sets the query run of the write, by its id.
    pub run_id = uuid("run_id");
    pub target = any_target();
}

impl Approval {
    /// Makes a record of this decision.
    pub fn new(decision: Decision) -> Self {
        Self::event().decision(decision)
    }
}
