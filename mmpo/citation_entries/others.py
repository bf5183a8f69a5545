"""Papers on lists, tokens, own samples and order of the data; and on what a run trains."""

from __future__ import annotations

from mmpo.citation import paper

ENTRIES = {
    "2106.09685": paper(
        "hu2021lora",
        "Edward J. Hu, Yelong Shen, Phillip Wallis, Zeyuan Allen-Zhu, Yuanzhi Li, Shean Wang, Lu Wang, Weizhu Chen",
        "LoRA: Low-Rank Adaptation of Large Language Models",
        2021,
        "ICLR 2022",
    ),
    "2306.17492": paper(
        "song2023preference",
        "Feifan Song, Bowen Yu, Minghao Li, Haiyang Yu, Fei Huang, Yongbin Li, Houfeng Wang",
        "Preference Ranking Optimization for Human Alignment",
        2023,
        "AAAI 2024",
    ),
    "2310.00212": paper(
        "wu2023pairwise",
        "Tianhao Wu, Banghua Zhu, Ruoyu Zhang, Zhaojin Wen, Kannan Ramchandran, Jiantao Jiao",
        "Pairwise Proximal Policy Optimization: Harnessing Relative Feedback for LLM Alignment",
        2023,
    ),
    "2402.01878": paper(
        "liu2024lipo",
        "Tianqi Liu, Zhen Qin, Junru Wu, Jiaming Shen, Misha Khalman, Rishabh Joshi, Yao Zhao, Mohammad Saleh, "
        "Simon Baumgartner, Jialu Liu, Peter J. Liu, Xuanhui Wang",
        "LiPO: Listwise Preference Optimization through Learning-to-Rank",
        2024,
    ),
    "2402.10038": paper(
        "khaki2024rs",
        "Saeed Khaki, JinJin Li, Lan Ma, Liu Yang, Prathap Ramachandra",
        "RS-DPO: A Hybrid Rejection Sampling and Direct Preference Optimization Method for Alignment of Large "
        "Language Models",
        2024,
    ),
    "2403.07230": paper(
        "pattnaik2024curry",
        "Pulkit Pattnaik, Rishabh Maheshwary, Kelechi Ogueji, Vikas Yadav, Sathwik Tejaswi Madhusudhan",
        "Curry-DPO: Enhancing Alignment using Curriculum Learning & Ranked Preferences",
        2024,
    ),
    "2404.00530": paper(
        "bansal2024comparing",
        "Hritik Bansal, Ashima Suvarna, Gantavya Bhatt, Nanyun Peng, Kai-Wei Chang, Aditya Grover",
        "Comparing Bad Apples to Good Oranges: Aligning Large Language Models via Joint Preference Optimization",
        2024,
    ),
    "2404.11999": paper(
        "zeng2024token",
        "Yongcheng Zeng, Guoqing Liu, Weiyu Ma, Ning Yang, Haifeng Zhang, Jun Wang",
        "Token-level Direct Preference Optimization",
        2024,
        "ICML 2024",
    ),
    "2404.18922": paper(
        "zhong2024dpo",
        "Han Zhong, Zikang Shan, Guhao Feng, Wei Xiong, Xinle Cheng, Li Zhao, Di He, Jiang Bian, Liwei Wang",
        "DPO Meets PPO: Reinforced Token Optimization for RLHF",
        2024,
        "ICML 2025",
    ),
    "2406.05534": paper(
        "qi2024online",
        "Biqing Qi, Pengfei Li, Fangyuan Li, Junqi Gao, Kaiyan Zhang, Bowen Zhou",
        "Online DPO: Online Direct Preference Optimization with Fast-Slow Chasing",
        2024,
    ),
    "2406.18629": paper(
        "lai2024step",
        "Xin Lai, Zhuotao Tian, Yukang Chen, Senqiao Yang, Xiangru Peng, Jiaya Jia",
        "Step-DPO: Step-wise Preference Optimization for Long-chain Reasoning of LLMs",
        2024,
    ),
    "2409.02392": paper(
        "xiong2024building",
        "Wei Xiong, Chengshuai Shi, Jiaming Shen, Aviv Rosenberg, Zhen Qin, Daniele Calandriello, Misha Khalman, "
        "Rishabh Joshi, Bilal Piot, Mohammad Saleh, Chi Jin, Tong Zhang, Tianqi Liu",
        "Building Math Agents with Multi-Turn Iterative Preference Learning",
        2024,
    ),
    "2410.05102": paper(
        "christopoulou2024sparsepo",
        "Fenia Christopoulou, Ronald Cardenas, Gerasimos Lampouras, Haitham Bou-Ammar, Jun Wang",
        "SparsePO: Controlling Preference Alignment of LLMs via Sparse Token Masks",
        2024,
    ),
    "2410.12854": paper(
        "liao2024tpo",
        "Weibin Liao, Xu Chu, Yasha Wang",
        "TPO: Aligning Large Language Models with Multi-branch & Multi-step Preference Trees",
        2024,
    ),
    "2412.16145": paper(
        "wang2024offline",
        "Huaijie Wang, Shibo Hao, Hanze Dong, Shenao Zhang, Yilin Bao, Ziran Yang, Yi Wu",
        "Offline Reinforcement Learning for LLM Multi-Step Reasoning",
        2024,
    ),
}
