// All words of the page, in English and Chinese; `say` gives one, `translate` writes them where the markup names them.

const WORDS = {
  en: {
    notice: "Research use only, not for diagnosis.",
    dark: "Dark", light: "Light",
    picture: "Picture", conversation: "Conversation",
    empty: "Open a picture, a DICOM series (files, a folder or a zip) or a NIfTI volume, drop it here, or take a sample below.",
    canvas: "Picture on view",
    canvasHelp: "Drag on the picture to mark a region. With the keyboard: M marks one, arrows move it, Shift and arrows size it, Escape removes it; Page Up and Page Down leaf through slices.",
    series: "Series", plane: "Plane", window: "Window", slice: "Slice",
    mark: "Mark a region", unmark: "Remove the mark", attach: "Add this picture to the question",
    open: "Open files", openFolder: "Open a folder", samples: "Samples",
    download: "Download", fresh: "New conversation", copy: "Copy", copied: "Copied",
    task: "Task", body: "Body system", any: "not said", question: "Question",
    settings: "Settings", model: "Model", beside: "Side by side with", nobody: "no other", length: "Longest answer (tokens)",
    temperature: "Temperature", seed: "Seed",
    stop: "Stop", send: "Ask", you: "You", remove: "Remove",
    attached: "Pictures of the question", region: "region", regionQuestion: "What does the region {box} show?",
    inRegion: "(region {box})", bodyLine: "Body system: {body}.", box: "box",
    keyTitle: "A key is needed", keyLabel: "Key of this server", keyUse: "Use it",
    withPictures: "with the pictures", close: "Close",
    answering: "Answering", answered: "Answer complete", stopped: "stopped", opening: "Opening",
    lost: "The server cannot be reached.", retry: "Ask again in {s} seconds.", cutOff: "The answer broke off.",
    leftOut: "Left out: ", axial: "axial", coronal: "coronal", sagittal: "sagittal", stored: "as stored",
    "window-auto": "automatic", "window-stored": "of the file", "window-lung": "lung", "window-bone": "bone", "window-brain": "brain", "window-soft-tissue": "soft tissue",
    burned_in: "Its header says that text is burned into the pixels; it may name the patient.",
    recognizable: "Its header says that a person can be recognised in it.",
    longest: "cut off at its longest length", tooMany: "No more pictures fit into one question.",
  },
  zh: {
    notice: "仅供研究使用，不用于诊断。",
    dark: "深色", light: "浅色",
    picture: "图像", conversation: "对话",
    empty: "请打开图片、DICOM序列（文件、文件夹或zip）或NIfTI体数据，也可拖放到此处，或选用下方示例。",
    canvas: "当前图像",
    canvasHelp: "在图像上拖动以标记区域。键盘：按M标记，方向键移动，Shift加方向键改变大小，Esc取消；Page Up和Page Down翻阅切片。",
    series: "序列", plane: "平面", window: "窗位", slice: "切片",
    mark: "标记区域", unmark: "取消标记", attach: "将此图像加入问题",
    open: "打开文件", openFolder: "打开文件夹", samples: "示例",
    download: "下载", fresh: "新对话", copy: "复制", copied: "已复制",
    task: "任务", body: "身体系统", any: "未说明", question: "问题",
    settings: "设置", model: "模型", beside: "并排比较", nobody: "无", length: "最长回答（词元）",
    temperature: "温度", seed: "随机种子",
    stop: "停止", send: "提问", you: "您", remove: "移除",
    attached: "问题中的图像", region: "区域", regionQuestion: "区域{box}显示了什么？",
    inRegion: "（区域{box}）", bodyLine: "身体系统：{body}。", box: "框",
    keyTitle: "需要密钥", keyLabel: "此服务器的密钥", keyUse: "使用",
    withPictures: "包含图像", close: "关闭",
    answering: "正在回答", answered: "回答完毕", stopped: "已停止", opening: "正在打开",
    lost: "无法连接服务器。", retry: "请在{s}秒后再问。", cutOff: "回答中断。",
    leftOut: "未使用：", axial: "轴位", coronal: "冠状位", sagittal: "矢状位", stored: "原始方向",
    "window-auto": "自动", "window-stored": "文件自带", "window-lung": "肺窗", "window-bone": "骨窗", "window-brain": "脑窗", "window-soft-tissue": "软组织窗",
    burned_in: "文件头表明像素中含有文字，可能包含患者姓名。",
    recognizable: "文件头表明图像中的人可被辨认。",
    longest: "已达最大长度", tooMany: "一个问题中不能再加入更多图像。",
  },
};

let language = localStorage.getItem("language") === "zh" ? "zh" : "en";

export const spoken = () => language;

export function say(word, values = {}) {
  let text = WORDS[language][word] ?? word;
  for (const [name, value] of Object.entries(values)) text = text.replace(`{${name}}`, value);
  return text;
}

export function speak(wanted) {
  language = wanted;
  localStorage.setItem("language", wanted);
  translate();
}

export function translate() {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = say(element.dataset.word);
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", say(element.dataset.label));
}
