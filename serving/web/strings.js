// All that the page says, in English and Chinese.

export const STRINGS = {
  en: {
    title: "Recurrent networks in your browser",
    intro:
      "Three networks answer on this page, in your browser. What you type is sent nowhere, and once the page is loaded it needs no network.",
    language: "Language",
    loading: "The model is on its way …",

    taggerTitle: "Words and their tags",
    taggerIntro:
      "What kind of word is it? That depends on the words around it: type a sentence. Point at a word, or go there with the Tab and arrow keys, for the probabilities.",
    sentence: "Sentence",
    tagged: "Words of the sentence and their tags",
    legendTitle: "What the tags mean",

    reviewTitle: "A review, word by word",
    reviewIntro:
      "How does the writer like the film? The network reads each word once, as it comes, and keeps what it has understood. Each word has the colour of what it changed, and where that is much, it says by how many points.",
    review: "Review",
    scored: "Words of the review, by what they changed",

    forecastTitle: "A forecast",
    forecastIntro:
      "Paste a series as CSV: a row for each step, the last one newest. A header and a column of dates may be there.",
    csv: "Series as CSV",
    example: "The example",
    openFile: "Open a file",
    series: "Series",
    numbers: "The forecast in numbers",
    copy: "Copy",
    copied: "Copied",

    nothingWritten: "Nothing is written yet.",
    wordsRead: (n) => (n === 1 ? "1 word read" : `${n} words read`),
    unread: (longest, rest) =>
      `The network reads the first ${longest} words. Left out at the end: ${rest}.`,
    afterThis: (label, p, change) => `${label} after this word: ${p} (${change})`,
    lineLabel: (label, first, last, n) => `${label}: ${first} at first, ${last} after ${n} words`,
    past: "past",
    forecast: "forecast",
    stepsFromNow: "steps from the last row",
    leftOut: (used, all) => `The last ${used} of ${all} rows are read.`,
    forecastSaid: (n, names) => `${n} steps forecast of ${names.join(", ")}`,
    chartLabel: (name, n, next) =>
      `${name}: ${n} steps of the past and ${next.length} forecast, from ${next[0]} to ${next.at(-1)}`,

    noModel: (why) =>
      `This model could not be loaded (${why}). Run "make web", leave its server running, and load the page again.`,
    failed: (why) => `No answer: ${why}. Load the page again.`,
    emptyCsv: "There is nothing here. Paste rows of numbers, or take the example.",
    tooLong: (most) => `That has more than ${most} characters. Paste it piece by piece.`,
    noNumbers: "No column ends with a number. Numbers look like 1.5 or 2e-3; paste rows of them.",
    newestFirst: (date) => `${date} stands below a later date. Put the oldest row first.`,
    unevenRow: (row, n, width) =>
      `Row ${row} has ${n} values, the first row ${width}. Give all rows the same number of values.`,
    noNumber: (row, column, cell) =>
      `Row ${row} has no number in column ${column}: "${cell}". Write one there, or leave the column out.`,
    ambiguous: (cell) =>
      `Is ${cell} a whole number, or one with a decimal comma? Write it without the comma, or with a decimal point.`,
    wrongWidth: (n, channels) =>
      `There are ${n} columns of numbers, and the model reads ${channels.length}: ${channels.join(", ")}. Paste these, in this order.`,
    lacking: (names) => `There is no column ${names.join(", ")}. Paste all that the model reads.`,
    tooShort: (n, needed) =>
      `There are ${n} rows, and the model reads ${needed}. Paste ${needed - n} more, older ones above.`,
    tooLarge: "The numbers are too large for the model. Paste them in the units that it learned.",

    labels: { negative: "negative", positive: "positive" },
    tags: {
      ADJ: "adjective",
      ADP: "preposition",
      ADV: "adverb",
      AUX: "auxiliary",
      CCONJ: "conjunction: and",
      DET: "determiner",
      INTJ: "interjection",
      NOUN: "noun",
      NUM: "number",
      PART: "particle",
      PRON: "pronoun",
      PROPN: "name",
      PUNCT: "punctuation",
      SCONJ: "conjunction: that",
      SYM: "symbol",
      VERB: "verb",
      X: "other",
      _: "none",
    },
  },

  zh: {
    title: "浏览器里的循环网络",
    intro:
      "本页的三个网络都在您的浏览器里作答。您输入的内容不会发往任何地方；页面载入之后，也不再需要网络。",
    language: "语言",
    loading: "模型正在载入……",

    taggerTitle: "词与词性",
    taggerIntro:
      "一个词是什么词性，取决于它前后的词。请输入一个英文句子；把鼠标移到词上，或用 Tab 键和方向键选中它，即可看到各词性的概率。",
    sentence: "句子",
    tagged: "句中的词及其词性",
    legendTitle: "词性标记的含义",

    reviewTitle: "逐词评分的影评",
    reviewIntro:
      "作者喜欢这部电影吗？网络每个词只读一遍，随读随记。每个词的颜色表示它带来的变化；变化大时，还标出百分点。",
    review: "影评（英文）",
    scored: "影评中的词，以及它们带来的变化",

    forecastTitle: "预测",
    forecastIntro: "请粘贴 CSV 格式的序列：每步一行，最新的在最后。可以带表头和日期列。",
    csv: "CSV 序列",
    example: "示例数据",
    openFile: "打开文件",
    series: "序列",
    numbers: "预测数值",
    copy: "复制",
    copied: "已复制",

    nothingWritten: "尚未输入。",
    wordsRead: (n) => `已读 ${n} 个词`,
    unread: (longest, rest) => `网络只读前 ${longest} 个词，末尾 ${rest} 个词未读。`,
    afterThis: (label, p, change) => `读完此词，${label}的概率为 ${p}（${change}）`,
    lineLabel: (label, first, last, n) => `${label}：起初 ${first}，读完 ${n} 个词后 ${last}`,
    past: "过去",
    forecast: "预测",
    stepsFromNow: "距最后一行的步数",
    leftOut: (used, all) => `共 ${all} 行，只读最后 ${used} 行。`,
    forecastSaid: (n, names) => `已预测 ${n} 步：${names.join("、")}`,
    chartLabel: (name, n, next) =>
      `${name}：过去 ${n} 步，预测 ${next.length} 步，从 ${next[0]} 到 ${next.at(-1)}`,

    noModel: (why) => `模型未能载入（${why}）。请运行 make web，让服务器保持运行，再重新载入本页。`,
    failed: (why) => `没有答案：${why}。请重新载入本页。`,
    emptyCsv: "这里是空的。请粘贴若干行数值，或使用示例数据。",
    tooLong: (most) => `超过了 ${most} 个字符。请分段粘贴。`,
    noNumbers: "没有一列以数值结尾。请粘贴若干行数值，写法如 1.5 或 2e-3。",
    newestFirst: (date) => `${date} 排在更晚的日期之后。请把最早的一行放在最前面。`,
    unevenRow: (row, n, width) =>
      `第 ${row} 行有 ${n} 个值，第一行有 ${width} 个。请让每行的个数相同。`,
    noNumber: (row, column, cell) =>
      `第 ${row} 行第 ${column} 列不是数值：“${cell}”。请补上数值，或去掉这一列。`,
    ambiguous: (cell) => `${cell} 是整数，还是带小数逗号的数？请去掉逗号，或改用小数点。`,
    wrongWidth: (n, channels) =>
      `数值共 ${n} 列，模型要读 ${channels.length} 列：${channels.join("、")}。请按此顺序粘贴。`,
    lacking: (names) => `缺少列：${names.join("、")}。请粘贴模型要读的所有列。`,
    tooShort: (n, needed) =>
      `只有 ${n} 行，模型要读 ${needed} 行。请在上方补上更早的 ${needed - n} 行。`,
    tooLarge: "数值过大，模型无法处理。请使用训练时的单位。",

    labels: { negative: "负面", positive: "正面" },
    tags: {
      ADJ: "形容词",
      ADP: "介词",
      ADV: "副词",
      AUX: "助动词",
      CCONJ: "并列连词",
      DET: "限定词",
      INTJ: "感叹词",
      NOUN: "名词",
      NUM: "数词",
      PART: "小品词",
      PRON: "代词",
      PROPN: "专有名词",
      PUNCT: "标点",
      SCONJ: "从属连词",
      SYM: "符号",
      VERB: "动词",
      X: "其他",
      _: "无",
    },
  },
};
