//! The text of system and developer messages, worded as gpt-oss was trained.

use super::message::{Channel, DeveloperMessage, SystemMessage, ToolNamespace};
use super::typescript;

/// Where functions live; a call's recipient is `functions.{name}`.
pub(super) const FUNCTIONS: &str = "functions";

/// The system message's text. `with_functions`: whether the conversation offers functions.
pub(super) fn system_text(system: &SystemMessage, with_functions: bool) -> String {
    let mut about = vec![system.identity.clone()];
    about.extend(system.knowledge_cutoff.iter().map(|cutoff| format!("Knowledge cutoff: {cutoff}")));
    about.extend(system.current_date.iter().map(|date| format!("Current date: {date}")));

    let mut sections = vec![about.join("\n")];
    sections.extend(system.effort.map(|effort| format!("Reasoning: {}", effort.name())));
    sections.extend(tools_section(&system.tools));
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
    if !developer.functions.is_empty() {
        let namespace =
            ToolNamespace { name: FUNCTIONS.to_owned(), description: None, tools: developer.functions.clone() };
        sections.extend(tools_section(&[namespace]));
    }
    (!sections.is_empty()).then(|| sections.join("\n\n"))
}

fn tools_section(namespaces: &[ToolNamespace]) -> Option<String> {
    if namespaces.is_empty() {
        return None;
    }
    let mut sections = vec!["# Tools".to_owned()];
    sections.extend(namespaces.iter().map(namespace_text));
    Some(sections.join("\n\n"))
}

fn namespace_text(namespace: &ToolNamespace) -> String {
    let ToolNamespace { name, description, tools } = namespace;
    let mut text = format!("## {name}\n\n");
    let description = description.as_deref().unwrap_or_default();
    if tools.is_empty() {
        text.push_str(description);
        return text;
    }
    typescript::push_comment(&mut text, description, "");
    text.push_str(&format!("namespace {name} {{\n\n"));
    for tool in tools {
        typescript::push_comment(&mut text, &tool.description, "");
        let parameters = tool.parameters.as_ref().map(typescript::parameters).unwrap_or_default();
        text.push_str(&format!("type {} = ({parameters}) => any;\n\n", tool.name));
    }
    text.push_str(&format!("}} // namespace {name}"));
    text
}
