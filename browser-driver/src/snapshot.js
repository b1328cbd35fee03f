// Function body for WebDriver: everything the page shows, as `Snapshot` in gptoss_page.rs has it.
const text = (css) => document.querySelector(css)?.textContent ?? "";
return {
    state: document.body?.dataset.state ?? null,
    stages: [...document.querySelectorAll("#stages > li")].map((line) => ({
        name: line.querySelector(".name")?.textContent ?? "",
        status: line.dataset.status ?? "",
        time: line.querySelector(".time")?.textContent ?? "",
    })),
    analysis_text: text("#analysis-text"),
    final_text: text("#final-text"),
    error: text("#error"),
    error_advice: text("#error-advice"),
};
