//! What users say of an answer.

use super::definition::family;

family! {
    /// A user's rating, comment or favourite, with `action_type` `feedback`; goes to
    /// `audit.events`.
    ///
    /// ```
    /// use tracing_audit::Feedback;
    ///
    /// # let id_of_the_query_run = uuid::Uuid::nil();
    /// let feedback = Feedback::new()
    ///     .run_id(id_of_the_query_run)
    ///     .rating(5)
    ///     .comment("just what I asked for");
    /// let favourite = Feedback::new().run_id(id_of_the_query_run).favourite(true);
    /// ```
    Feedback, "feedback";
    /// Sets the rating, on the program's own scale.
    pub rating = integer("rating");
    /// Sets the comment.
    pub comment = text("comment");
    /// Sets the run that it refers to, by its id.
    pub run_id = uuid("run_id");
    /// Sets whether the run is one of the user's favourites from now on.
    pub favourite = boolean("favourite");
    pub target = any_target();
}

impl Feedback {
    /// Makes a record of feedback.
    pub fn new() -> Self {
        Self::event()
    }
}

impl Default for Feedback {
    fn default() -> Self {
        Self::new()
    }
}
