// Function body for WebDriver: everything the page shows, as `Snapshot` in gptoss_page.rs has it.
const text = (css) => document.querySelector(css)?.textContent ?? "";
// What the last turn says on a channel.
const said = (channel) =>
    [...document.querySelectorAll(`.turn[data-last] [data-channel="${channel}"] .said`)]
        .map((message) => message.textContent)
        .join("");
return {
    state: document.body?.dataset.state ?? null,
    stages: [...document.querySelectorAll("#stages > li")].map((line) => ({
        name: line.querySelector(".name")?.textContent ?? "",
        status: line.dataset.status ?? "",
        time: line.querySelector(".time")?.textContent ?? "",
    })),
    analysis_text: said("analysis"),
    final_text: said("final"),
    error: text("#error"),
    error_advice: text("#error-advice"),
};
