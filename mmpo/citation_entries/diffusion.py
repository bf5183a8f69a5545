"""Papers on preference alignment of image generators."""

from __future__ import annotations

from mmpo.citation import paper

ENTRIES = {
    "2311.12908": paper(
        "wallace2023diffusion",
        "Bram Wallace, Meihua Dang, Rafael Rafailov, Linqi Zhou, Aaron Lou, Senthil Purushwalkam, Stefano Ermon, "
        "Caiming Xiong, Shafiq Joty, Nikhil Naik",
        "Diffusion Model Alignment Using Direct Preference Optimization",
        2023,
        "CVPR 2024",
    ),
    "2311.13231": paper(
        "yang2023using",
        "Kai Yang, Jian Tao, Jiafei Lyu, Chunjiang Ge, Jiaxin Chen, Qimai Li, Weihan Shen, Xiaolong Zhu, Xiu Li",
        "Using Human Feedback to Fine-tune Diffusion Models without Any Reward Model",
        2023,
        "CVPR 2024",
    ),
    "2404.04465": paper(
        "li2024aligning",
        "Shufan Li, Konstantinos Kallidromitis, Akash Gokul, Yusuke Kato, Kazuki Kozuka",
        "Aligning Diffusion Models by Optimizing Human Utility",
        2024,
        "NeurIPS 2024",
    ),
    "2406.04314": paper(
        "liang2024step",
        "Zhanhao Liang, Yuhui Yuan, Shuyang Gu, Bohan Chen, Tiankai Hang, Mingxi Cheng, Ji Li, Liang Zheng",
        "Aesthetic Post-Training Diffusion Models from Generic Preferences with Step-by-step Preference Optimization",
        2024,
        "CVPR 2025",
    ),
    "2406.06424": paper(
        "hong2024margin",
        "Jiwoo Hong, Sayak Paul, Noah Lee, Kashif Rasul, James Thorne, Jongheon Jeong",
        "Margin-aware Preference Optimization for Aligning Diffusion Models without Reference",
        2024,
    ),
    "2407.12164": paper(
        "miao2024subject",
        "Yanting Miao, William Loh, Suraj Kothawade, Pascal Poupart, Abdullah Rashwan, Yeqing Li",
        "Subject-driven Text-to-Image Generation via Preference-based Reinforcement Learning",
        2024,
        "NeurIPS 2024",
    ),
    "2410.05255": paper(
        "zhang2024seppo",
        "Daoan Zhang, Guangchen Lan, Dong-Jun Han, Wenlin Yao, Xiaoman Pan, Hongming Zhang, Mingxiao Li, "
        "Pengcheng Chen, Yu Dong, Christopher Brinton, Jiebo Luo",
        "SePPO: Semi-Policy Preference Optimization for Diffusion Alignment",
        2024,
    ),
    "2410.18013": paper(
        "karthik2024scalable",
        "Shyamgopal Karthik, Huseyin Coskun, Zeynep Akata, Sergey Tulyakov, Jian Ren, Anil Kag",
        "Scalable Ranked Preference Optimization for Text-to-Image Generation",
        2024,
        "ICCV 2025",
    ),
    "2502.06023": paper(
        "saeidi2025dual",
        "Amir Saeidi, Yiran Luo, Agneet Chatterjee, Shamanthak Hegde, Bimsara Pathiraja, Yezhou Yang, Chitta Baral",
        "Dual Caption Preference Optimization for Diffusion Models",
        2025,
        "TMLR 2025",
    ),
    "2503.18454": paper(
        "lu2025inpo",
        "Yunhong Lu, Qichao Wang, Hengyuan Cao, Xierui Wang, Xiaoyin Xu, Min Zhang",
        "InPO: Inversion Preference Optimization with Reparametrized DDIM for Efficient Diffusion Model Alignment",
        2025,
        "CVPR 2025",
    ),
    "2506.02698": paper(
        "lu2025smoothed",
        "Yunhong Lu, Qichao Wang, Hengyuan Cao, Xiaoyin Xu, Min Zhang",
        "Smoothed Preference Optimization via ReNoise Inversion for Aligning Diffusion Models with Varied Human "
        "Preferences",
        2025,
        "ICML 2025",
    ),
}
