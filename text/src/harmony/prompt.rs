//! The text of system and developer messages, worded as gpt-oss was trained.

use super::message::{Channel, DeveloperMessage, ResponseFormat, SystemMessage, ToolNamespace};
use super::typescript;

/// Where functions live; a call's recipient is `functions.{name}`.
pub(super) const FUNCTIONS: &str = "functions";

/// Prefix of a line that is not code.
const COMMENT: &str = "// ";

/// The system message's text. `with_functions`: whether the conversation offers functions.
pub(super) fn system_text(system: &SystemMessage, with_functions: bool) -> String {
    let mut about: Vec<String> =
        Some(&system.identity).filter(|identity| !identity.is_empty()).cloned().into_iter().collect();
    about.extend(system.knowledge_cutoff.iter().map(|cutoff| format!("Knowledge cutoff: {cutoff}")));
    about.extend(system.current_date.iter().map(|date| format!("Current date: {date}")));

    let mut sections: Vec<String> = (!about.is_empty()).then(|| about.join("\n")).into_iter().collect();
    sections.extend(system.effort.map(|effort| format!("Reasoning: {}", effort.name())));
    sections.extend(tools_section(system.tools.iter().collect()));
    if !system.valid_channels.is_empty() {
        let names: Vec<&str> = system.valid_channels.iter().map(Channel::name).collect();
        let mut channels =
            format!("# Valid channels: {}. Channel must be included for every message.", names.join(", "));
        if with_functions {
            channels.push_str(&format!("\nCalls to these tools must go to the commentary channel: '{FUNCTIONS}'."));
        }
        sections.push(channels);
    }
    sections.join("\n\n")
}

/// The developer message's text, or `None` when it says nothing and is to be left out.
pub(super) fn developer_text(developer: &DeveloperMessage) -> Option<String> {
    let mut sections = Vec::new();
    if !developer.instructions.is_empty() {
        sections.push(format!("# Instructions\n\n{}", developer.instructions));
    }
    let says_something = |namespace: &&ToolNamespace| !namespace.tools.is_empty() || namespace.description.is_some();
    let tools: Vec<&ToolNamespace> = developer.tools.iter().filter(says_something).collect();
    sections.extend(tools_section(tools));
    sections.extend(formats_section(&developer.response_formats));
    (!sections.is_empty()).then(|| sections.join("\n\n"))
}

/// Formats come last, each with its schema as JSON in one line.
fn formats_section(formats: &[ResponseFormat]) -> Option<String> {
    let text = |format: &ResponseFormat| {
        let mut lines: Vec<String> = format.description.lines().map(|line| format!("{COMMENT}{line}")).collect();
        lines.push(format.schema.to_string());
        format!("## {}\n\n{}", format.name, lines.join("\n"))
    };
    let all: Vec<String> = std::iter::once("# Response Formats".to_owned()).chain(formats.iter().map(text)).collect();
    (!formats.is_empty()).then(|| all.join("\n\n"))
}

/// The namespaces in the order of their names.
fn tools_section(mut namespaces: Vec<&ToolNamespace>) -> Option<String> {
    if namespaces.is_empty() {
        return None;
    }
    namespaces.sort_by(|one, other| one.name.cmp(&other.name));
    let mut sections = vec!["# Tools".to_owned()];
    sections.extend(namespaces.into_iter().map(namespace_text));
    Some(sections.join("\n\n"))
}

/// Description and functions of a namespace. Description lines are comments, except in a namespace without functions.
fn namespace_text(namespace: &ToolNamespace) -> String {
    let ToolNamespace { name, description, tools } = namespace;
    let mark = if tools.is_empty() { "" } else { COMMENT };
    let mut lines = vec![format!("## {name}\n")];
    lines.extend(description.iter().flat_map(|text| text.lines()).map(|line| format!("{mark}{line}")));
    if !tools.is_empty() {
        lines.push(format!("namespace {name} {{\n"));
        for tool in tools {
            lines.extend(tool.description.lines().map(|line| format!("{COMMENT}{line}")));
            let parameters = tool.parameters.as_ref().map(typescript::parameters).unwrap_or_default();
            lines.push(format!("type {} = ({parameters}) => any;\n", tool.name));
        }
        lines.push(format!("}} // namespace {name}"));
    }
    lines.join("\n")
}
