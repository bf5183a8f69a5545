"""Papers on losses without a reference model, of single samples, or of mean log-likelihoods."""

from __future__ import annotations

from mmpo.citation import paper

ENTRIES = {
    "2305.10425": paper(
        "zhao2023slic",
        "Yao Zhao, Rishabh Joshi, Tianqi Liu, Misha Khalman, Mohammad Saleh, Peter J. Liu",
        "SLiC-HF: Sequence Likelihood Calibration with Human Feedback",
        2023,
    ),
    "2309.06657": paper(
        "liu2023statistical",
        "Tianqi Liu, Yao Zhao, Rishabh Joshi, Misha Khalman, Mohammad Saleh, Peter J. Liu, Jialu Liu",
        "Statistical Rejection Sampling Improves Preference Optimization",
        2023,
        "ICLR 2024",
    ),
    "2312.16430": paper(
        "jiang2023preference",
        "Zaifan Jiang, Xing Huang, Chao Wei",
        "Preference as Reward, Maximum Preference Optimization with Importance Sampling",
        2023,
    ),
    "2401.08417": paper(
        "xu2024contrastive",
        "Haoran Xu, Amr Sharaf, Yunmo Chen, Weiting Tan, Lingfeng Shen, Benjamin Van Durme, Kenton Murray, "
        "Young Jin Kim",
        "Contrastive Preference Optimization: Pushing the Boundaries of LLM Performance in Machine Translation",
        2024,
        "ICML 2024",
    ),
    "2402.01306": paper(
        "ethayarajh2024kto",
        "Kawin Ethayarajh, Winnie Xu, Niklas Muennighoff, Dan Jurafsky, Douwe Kiela",
        "KTO: Model Alignment as Prospect Theoretic Optimization",
        2024,
        "ICML 2024",
    ),
    "2403.07691": paper(
        "hong2024orpo",
        "Jiwoo Hong, Noah Lee, James Thorne",
        "ORPO: Monolithic Preference Optimization without Reference Model",
        2024,
        "EMNLP 2024",
    ),
    "2405.14734": paper(
        "meng2024simpo",
        "Yu Meng, Mengzhou Xia, Danqi Chen",
        "SimPO: Simple Preference Optimization with a Reference-Free Reward",
        2024,
        "NeurIPS 2024",
    ),
    "2405.16681": paper(
        "saeidi2024triple",
        "Amir Saeidi, Shivanshu Verma, Aswin RRV, Kashif Rasul, Chitta Baral",
        "Triple Preference Optimization: Achieving Better Alignment using a Single Step Optimization",
        2024,
    ),
    "2407.15229": paper(
        "ahrabian2024hitchhiker",
        "Kian Ahrabian, Xihui Lin, Barun Patra, Vishrav Chaudhary, Alon Benhaim, Jay Pujara, Xia Song",
        "The Hitchhiker's Guide to Human Alignment with *PO",
        2024,
    ),
    "2409.10571": paper(
        "wang2024asft",
        "Ruoyu Wang, Jiachen Sun, Shaowei Hua, Quan Fang",
        "ASFT: Aligned Supervised Fine-Tuning through Absolute Likelihood",
        2024,
    ),
    "2411.15124": paper(
        "lambert2024tulu",
        "Nathan Lambert, Jacob Morrison, Valentina Pyatkin, Shengyi Huang, Hamish Ivison, Faeze Brahman, "
        "Lester James V. Miranda, Alisa Liu, Nouha Dziri, Shane Lyu, Yuling Gu, Saumya Malik, Victoria Graf, "
        "Jena D. Hwang, Jiangjiang Yang, Ronan Le Bras, Oyvind Tafjord, Chris Wilhelm, Luca Soldaini, "
        "Noah A. Smith, Yizhong Wang, Pradeep Dasigi, Hannaneh Hajishirzi",
        "Tulu 3: Pushing Frontiers in Open Language Model Post-Training",
        2024,
    ),
    "2412.12865": paper(
        "fan2024preference",
        "Yuchen Fan, Yuzhong Hong, Qiushi Wang, Junwei Bao, Hongfei Jiang, Yang Song",
        "Preference-Oriented Supervised Fine-Tuning: Favoring Target Model Over Aligned Large Language Models",
        2024,
    ),
    "2502.01237": paper(
        "gorbatovski2025differences",
        "Alexey Gorbatovski, Boris Shaposhnikov, Viacheslav Sinii, Alexey Malakhov, Daniil Gavrilov",
        "The Differences Between Direct Alignment Algorithms are a Blur",
        2025,
    ),
}
