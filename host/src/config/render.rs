//! Problems as people and programs read them: drawn on a terminal, plain lines elsewhere, JSON on demand. Never prints.

use std::fmt::{self, Write as _};

use miette::{Diagnostic, LabeledSpan, MietteHandlerOpts, NamedSource, ReportHandler, SourceCode};
use serde_json::json;

use super::problem::{Place, Problem, Problems, Severity};

/// How problems are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// For a terminal: the lines drawn, in colour or not.
    Drawn {
        /// Whether in colour; not where `NO_COLOR` is set.
        color: bool,
    },
    /// `FILE:LINE:COLUMN: error: …`, for logs and editors.
    Plain,
    /// For programs.
    Json,
}

impl Problems {
    /// All of them, and on the last line their count.
    pub fn render(&self, style: Style) -> String {
        match style {
            Style::Json => format!("{:#}\n", self.to_json()),
            Style::Plain => self.to_string(),
            Style::Drawn { color } => self.drawn(color),
        }
    }

    /// `{problems: […], errors, warnings}`.
    pub fn to_json(&self) -> serde_json::Value {
        let problems: Vec<_> = self.list.iter().map(|problem| self.problem_json(problem)).collect();
        json!({
            "problems": problems,
            "errors": self.count(Severity::Error),
            "warnings": self.count(Severity::Warning),
        })
    }

    fn problem_json(&self, problem: &Problem) -> serde_json::Value {
        let place = |place: Place| {
            let (line, column) = self.position(place);
            json!({ "file": self.file(place), "line": line, "column": column })
        };
        let mut value = problem.at.map_or_else(|| json!({ "file": problem.offending }), place);
        value["severity"] = problem.severity.as_str().into();
        value["offending"] = problem.offending.clone().into();
        value["message"] = problem.message.clone().into();
        value["expected"] = problem.expected.clone().into();
        value["hint"] = problem.hint.clone().into();
        if let Some((at, label)) = &problem.related {
            value["related"] = place(*at);
            value["related"]["label"] = label.clone().into();
        }
        value
    }

    /// How many there are, in words.
    pub fn summary(&self) -> String {
        let counted = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        let errors = self.count(Severity::Error);
        let warnings = self.count(Severity::Warning);
        match (errors, warnings) {
            (_, 0) => counted(errors, "error"),
            (0, _) => counted(warnings, "warning"),
            _ => format!("{}, {}", counted(errors, "error"), counted(warnings, "warning")),
        }
    }

    fn file(&self, place: Place) -> String {
        self.sources.get(place.file).map_or_else(String::new, |source| source.path.display().to_string())
    }

    fn position_text(&self, place: Place) -> String {
        let (line, column) = self.position(place);
        format!("{}:{line}:{column}", self.file(place))
    }

    fn drawn(&self, color: bool) -> String {
        let handler = MietteHandlerOpts::new().terminal_links(false).color(color).unicode(true).width(120).build();
        let mut text = String::new();
        for problem in &self.list {
            let drawing = Drawing::new(self, problem);
            // Writing to a string can't fail.
            let _ = write!(text, "{}", Drawn { handler: &handler, drawing: &drawing });
            text.push('\n');
        }
        text + &self.summary() + "\n"
    }

    fn write_plain(&self, problem: &Problem, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = problem.severity.as_str();
        match problem.at {
            None => writeln!(f, "{severity}: {}", problem.message)?,
            Some(at) => {
                writeln!(f, "{}: {severity}: {}", self.position_text(at), problem.message)?;
                self.write_line(at, f)?;
            }
        }
        if let Some(expected) = &problem.expected {
            writeln!(f, "  expected: {expected}")?;
        }
        if let Some(hint) = &problem.hint {
            writeln!(f, "  hint: {hint}")?;
        }
        if let Some((at, label)) = &problem.related {
            writeln!(f, "  see: {}: {label}", self.position_text(*at))?;
        }
        writeln!(f)
    }

    /// The line of a place, and what of it is meant.
    fn write_line(&self, place: Place, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WIDTH_MAX: usize = 160;
        let Some(source) = self.sources.get(place.file) else { return Ok(()) };
        let (number, column) = self.position(place);
        let Some(line) = source.text.lines().nth(number - 1).filter(|line| !line.is_empty()) else { return Ok(()) };
        let length = source.text.get(place.start..place.end).and_then(|text| text.lines().next()).unwrap_or_default();
        let marks = "^".repeat(length.chars().count().max(1));
        if line.chars().count() > WIDTH_MAX {
            return Ok(());
        }
        let gutter = number.to_string();
        // Tabs stay tabs, so that the marks stand below what they mark.
        let indent: String = line.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        writeln!(f, "  {gutter} | {line}")?;
        writeln!(f, "  {:width$} | {indent}{marks}", "", width = gutter.len())
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.list {
            self.write_plain(problem, f)?;
        }
        writeln!(f, "{}", self.summary())
    }
}

impl std::error::Error for Problems {}

/// A problem as miette draws it.
#[derive(Debug)]
struct Drawing {
    severity: Severity,
    message: String,
    help: Option<String>,
    source: Option<NamedSource<String>>,
    labels: Vec<LabeledSpan>,
}

impl Drawing {
    fn new(problems: &Problems, problem: &Problem) -> Self {
        let mut help: Vec<String> = problem.hint.iter().cloned().collect();
        let mut labels = Vec::new();
        if let Some(at) = problem.at {
            let label = problem.expected.clone().map(|expected| format!("expected {expected}"));
            labels.push(LabeledSpan::new_primary_with_span(label, at.start..at.end));
            match &problem.related {
                Some((other, label)) if other.file == at.file => {
                    labels.push(LabeledSpan::new_with_span(Some(label.clone()), other.start..other.end));
                }
                Some((other, label)) => help.push(format!("{}: {label}", problems.position_text(*other))),
                None => {}
            }
        }
        let source = problem.at.and_then(|at| problems.sources.get(at.file));
        Self {
            severity: problem.severity,
            message: problem.message.clone(),
            help: (!help.is_empty()).then(|| help.join("\n")),
            source: source.map(|source| NamedSource::new(source.path.display().to_string(), source.text.to_string())),
            labels,
        }
    }
}

impl fmt::Display for Drawing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Drawing {}

impl Diagnostic for Drawing {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        (!self.labels.is_empty())
            .then(|| Box::new(self.labels.iter().cloned()) as Box<dyn Iterator<Item = LabeledSpan>>)
    }
}

struct Drawn<'d> {
    handler: &'d miette::MietteHandler,
    drawing: &'d Drawing,
}

impl fmt::Display for Drawn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handler.debug(self.drawing, f)
    }
}
