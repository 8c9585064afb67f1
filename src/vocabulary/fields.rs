//! The fields that have a column: their types, the kinds that have them, and what they do besides.

use super::kinds::Kind;

/// How a field's value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldType {
    /// `text`, kept up to the limit for text.
    Text,
    /// `text` that is an identifier: indexed or compared, so kept short.
    Key,
    /// `integer`, 32 bits.
    Int,
    /// `uuid`.
    Uuid,
    /// No column of its own: interpreted by the decoder.
    Special,
}

/// Defines [`Field`] and its table together, so that neither can lack a row.
macro_rules! fields {
    ($( $variant:ident = $code:literal, $name:literal, $type:ident, [$($kind:ident)*], $role:ident; )*) => {
        /// A field of the vocabulary. The numbers are part of the frame: frozen, version 1.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Field { $( $variant = $code, )* }

        impl Field {
            /// Every field of the vocabulary.
            pub(crate) const ALL: &'static [Self] = &[$( Self::$variant, )*];

            pub(crate) const fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }

            pub(crate) const fn field_type(self) -> FieldType {
                match self { $( Self::$variant => FieldType::$type, )* }
            }

            pub(crate) const fn from_code(code: u8) -> Option<Self> {
                match code { $( $code => Some(Self::$variant), )* _ => None }
            }

            /// Returns whether records of `kind` have this field.
            pub(crate) const fn belongs_to(self, kind: Kind) -> bool {
                match self { $( Self::$variant => fields!(@kinds kind $($kind)*), )* }
            }

            const fn role(self) -> FieldRole {
                match self { $( Self::$variant => FieldRole::$role, )* }
            }
        }
    };
    (@kinds $self:ident every) => { true };
    (@kinds $self:ident $($kind:ident)*) => { matches!($self, $( Kind::$kind )|*) };
}

/// What a field does besides being stored.
#[derive(PartialEq, Eq)]
enum FieldRole {
    /// Inherited from the nearest enclosing span that has it.
    Inherited,
    /// Evidence of success when it is recorded after the span began.
    Result,
    /// Nothing else.
    Plain,
}

fields! {
    TenantId              = 1,  "tenant_id",               Uuid,    [every], Inherited;
    UserId                = 2,  "user_id",                 Key,     [every], Inherited;
    UserRole              = 3,  "user_role",               Key,     [every], Inherited;
    AgentId               = 4,  "agent_id",                Uuid,    [every], Inherited;
    RequestId             = 5,  "request_id",              Key,     [every], Inherited;
    LlmSessionId          = 6,  "llm_session_id",          Uuid,    [every], Inherited;
    ConversationId        = 7,  "conversation_id",         Key,     [every], Inherited;
    Traceparent           = 8,  "traceparent",             Special, [every], Inherited;
    Status                = 9,  "status",                  Special, [every], Plain;
    ErrorCode             = 10, "error_code",              Key,     [every], Plain;
    ErrorMessage          = 11, "error_message",           Text,    [every], Plain;
    Metadata              = 12, "metadata",                Special, [every], Plain;
    DatasourceId          = 13, "datasource_id",           Uuid,    [QueryRun], Plain;
    QuestionText          = 14, "question_text",           Text,    [QueryRun], Plain;
    SqlText               = 15, "sql_text",                Text,    [QueryRun], Plain;
    SqlSummary            = 16, "sql_summary",             Text,    [QueryRun], Plain;
    RowCount              = 17, "row_count",               Int,     [QueryRun], Result;
    RowsAffected          = 18, "rows_affected",           Int,     [QueryRun], Result;
    ModelName             = 19, "model_name",              Key,     [PromptRun], Plain;
    Provider              = 20, "provider",                Key,     [PromptRun], Plain;
    PromptTemplateName    = 21, "prompt_template_name",    Key,     [PromptRun], Plain;
    PromptTemplateVersion = 22, "prompt_template_version", Int,     [PromptRun], Plain;
    RenderedPrompt        = 23, "rendered_prompt",         Text,    [PromptRun], Plain;
    ResponseText          = 24, "response_text",           Text,    [PromptRun], Result;
    Role                  = 25, "role",                    Key,     [PromptRun], Plain;
    InputTokenCount       = 26, "input_token_count",       Int,     [PromptRun], Plain;
    OutputTokenCount      = 27, "output_token_count",      Int,     [PromptRun], Result;
    ActionType            = 28, "action_type",             Key,     [Event], Plain;
    TargetType            = 29, "target_type",             Key,     [Event], Plain;
    TargetId              = 30, "target_id",               Key,     [Event], Plain;
    InputSummary          = 31, "input_summary",           Text,    [Event], Plain;
    OutputSummary         = 32, "output_summary",          Text,    [Event], Result;
    // The error that an instrumented function's `err` event or `audited()` saw; it becomes
    // `error_message` unless the span records one itself. A span cannot use this name.
    SeenError             = 33, "",                        Special, [every], Plain;
    // A span cannot use the names below either. The enclosing record also has every field that was
    // inherited before the boundary.
    Boundary              = 34, "",                        Special, [every], Plain;
    // The host's OpenTelemetry span that was active when the record began, and its span for the
    // record itself.
    HostContext           = 35, "",                        Special, [every], Plain;
    HostSpan              = 36, "",                        Special, [every], Plain;
    // The code of the error that `audited()` saw; it becomes `error_code` unless the span records
    // one itself.
    SeenCode              = 37, "",                        Special, [every], Plain;
    // What was redacted in the record, a line for each field; only the redactor writes it.
    Redactions            = 38, "",                        Special, [every], Plain;
}

/// The field of a query run with its bind values. It has no column: what is kept of it is in
/// `metadata`.
pub(crate) const PARAMETERS: &str = "parameters";

impl Field {
    /// One more than the greatest code: the size of a table indexed by code.
    pub(crate) const SLOTS: usize = 39;

    /// Returns the field that `name` stands for on a span of `kind` (`None`: a span that is not
    /// audited).
    pub(crate) fn of_name(name: &str, kind: Option<Kind>) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| {
            field.name() == name
                && !name.is_empty()
                && kind.map_or(field.is_inherited(), |kind| field.belongs_to(kind))
        })
    }

    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    pub(crate) const fn is_inherited(self) -> bool {
        matches!(self.role(), FieldRole::Inherited)
    }

    /// Returns whether the value is the key of something, which only the key itself identifies. For
    /// an error or a role, the name of a variant may identify it.
    pub(crate) const fn names_something(self) -> bool {
        matches!(
            self,
            Self::UserId | Self::RequestId | Self::ConversationId | Self::TargetId
        )
    }

    /// Returns whether the output of a `Debug` implementation is parsed for its value, rather than
    /// kept as text or JSON.
    pub(crate) const fn is_looked_into(self) -> bool {
        matches!(self, Self::Status | Self::Traceparent)
            || !matches!(self.field_type(), FieldType::Text | FieldType::Special)
    }

    pub(crate) const fn is_result(self) -> bool {
        matches!(self.role(), FieldRole::Result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_codes_round_trip() {
        for &field in Field::ALL {
            assert_eq!(Field::from_code(field.code()), Some(field));
            assert!(usize::from(field.code()) < Field::SLOTS);
        }
    }

    #[test]
    fn field_of_another_kind_is_not_found_by_its_name() {
        assert_eq!(
            Field::of_name("sql_text", Some(Kind::QueryRun)),
            Some(Field::SqlText)
        );
        assert_eq!(Field::of_name("sql_text", Some(Kind::Event)), None);
        assert_eq!(Field::of_name("sql_text", None), None);
        assert_eq!(Field::of_name("request_id", None), Some(Field::RequestId));
        assert_eq!(Field::of_name("", Some(Kind::Event)), None);
    }
}
